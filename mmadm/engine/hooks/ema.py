"""Averages of the weights of single roles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import EMAHook
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn

from mmadm.registry import HOOKS
from mmadm.utils.errors import CheckpointError, ConfigError, near_matches, require_list
from mmadm.utils.unwrap import unwrapped


@HOOKS.register_module()
class RoleEMAHook(EMAHook):
    """mmengine's ``EMAHook`` for roles of an ``mmadm.Distillation``.

    Validation, checkpoints and role files have the averages in place of the weights, and training goes on from the
    weights. What is not averaged, frozen roles first of all, is neither copied nor touched.

    Args:
        roles: Roles to average; by default the deploy role.
        **kwargs: As for ``EMAHook``.

    Raises:
        ConfigError: If ``roles`` is a string; before training, if one of them is not a trainable role.
        CheckpointError: When resuming, if the checkpoint has averages of other roles.
    """

    def __init__(self, roles: Sequence[str] | None = None, **kwargs: Any) -> None:
        require_list('custom_hooks: mmadm.RoleEMAHook.roles', roles)
        super().__init__(**kwargs)
        self.roles = roles

    def before_run(self, runner: Runner) -> None:
        """Copy the roles."""
        model = unwrapped(runner.model)
        if not hasattr(model, 'roles'):
            raise ConfigError(f'custom_hooks: mmadm.RoleEMAHook: {type(model).__name__} has no roles; use EMAHook')
        self.roles = list(self.roles or [model.deploy])
        for role in self.roles:
            if role not in model.trainable:
                why = 'is frozen, so it is its own average' if role in model.frozen else 'is no role'
                raise ConfigError(
                    f'custom_hooks: mmadm.RoleEMAHook.roles: {role!r} {why}; {near_matches(role, model.trainable)}'
                )
        # under the names that these weights have in the whole model
        self.src_model = nn.Module()
        self.src_model.add_module('roles', nn.ModuleDict({role: model.roles[role] for role in self.roles}))
        self.ema_model = MODELS.build(self.ema_cfg, default_args={'model': self.src_model})

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Resume the averages, and give the weights that they stand in for back to the checkpoint."""
        if not runner._resume:
            return  # the first update takes the weights as they are
        if 'ema_state_dict' not in checkpoint:
            runner.logger.warning('The checkpoint has no averages: RoleEMAHook begins with its weights.')
            return
        found = {key.split('.')[2] for key in checkpoint['ema_state_dict'] if key.startswith('module.roles.')}
        if found != set(self.roles or ()):
            raise CheckpointError(
                f'the checkpoint has averages of {sorted(found)}, mmadm.RoleEMAHook.roles is {self.roles}; resume with '
                'the roles it was saved with'
            )
        super().after_load_checkpoint(runner, checkpoint)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put the averages in the place of the weights, and these beside them."""
        self._begin()
        super().before_save_checkpoint(runner, checkpoint)

    def _swap_ema_parameters(self) -> None:
        self._begin()
        super()._swap_ema_parameters()

    def _begin(self) -> None:
        """Before the first update the average is the weights, which were made or loaded after they were copied."""
        if self.ema_model.steps == 0:
            self.ema_model.module.load_state_dict(self.src_model.state_dict())
