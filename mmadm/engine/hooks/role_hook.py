"""Hooks that were written for a training of one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partialmethod
from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS as ALL_HOOKS
from mmengine.runner import Runner
from torch import nn

from mmadm.registry import HOOKS
from mmadm.utils.errors import ConfigError, near_matches, require_dict, require_list
from mmadm.utils.unwrap import unwrapped

_KEY = 'custom_hooks: mmadm.RoleHook'


@HOOKS.register_module()
class RoleHook(Hook):
    """Runs a hook that reaches into the model, such as mmdet's ``YOLOXModeSwitchHook``, on roles.

    Each role has a hook of its own, which sees the role's network as ``runner.model`` and everything else of the runner
    as it is.

    Args:
        hook: Config of the hook.
        roles: Roles to run it on; by default the trainable ones.

    Raises:
        ConfigError: If ``hook`` is no dict or an ``EMAHook``, or ``roles`` is a string; before training, if there is no
            such role.
    """

    def __init__(self, hook: Mapping[str, Any], roles: Sequence[str] | None = None) -> None:
        require_dict(f'{_KEY}.hook', hook, "dict(type='YOLOXModeSwitchHook', num_last_epochs=15)")
        require_list(f'{_KEY}.roles', roles)
        self._cfg = hook
        self._roles = roles
        self._by_role: dict[str, Hook] = {}
        first = self._build()
        if isinstance(first, EMAHook):
            raise ConfigError(
                f'{_KEY}.hook: for averages use mmadm.RoleEMAHook, which also writes them into role files'
            )
        self.priority = first.priority

    def _build(self) -> Hook:
        return ALL_HOOKS.build(deepcopy(dict(self._cfg)))

    def _pass_on(self, stage: str, runner: Runner, **arguments: Any) -> None:
        """Call the hook of every role."""
        model = unwrapped(runner.model)
        if not self._by_role:
            known = getattr(model, 'roles', {})
            roles: Any = self._roles or getattr(model, 'trainable', ())
            for role in roles:
                if role not in known:
                    raise ConfigError(f'{_KEY}.roles: no role {role!r}; {near_matches(role, known)}')
                self._by_role[role] = self._build()
        for role, hook in self._by_role.items():
            try:
                getattr(hook, stage)(_RoleRunner(runner, model.roles[role]), **arguments)
            except AssertionError as error:  # by which stock hooks refuse a network
                raise ConfigError(f'model.roles.{role}: {type(hook).__name__}: {error}') from error

    before_run = partialmethod(_pass_on, 'before_run')
    after_run = partialmethod(_pass_on, 'after_run')
    before_train = partialmethod(_pass_on, 'before_train')
    after_train = partialmethod(_pass_on, 'after_train')
    before_val = partialmethod(_pass_on, 'before_val')
    after_val = partialmethod(_pass_on, 'after_val')
    before_test = partialmethod(_pass_on, 'before_test')
    after_test = partialmethod(_pass_on, 'after_test')
    before_train_epoch = partialmethod(_pass_on, 'before_train_epoch')
    after_train_epoch = partialmethod(_pass_on, 'after_train_epoch')
    before_val_epoch = partialmethod(_pass_on, 'before_val_epoch')
    after_val_epoch = partialmethod(_pass_on, 'after_val_epoch')
    before_test_epoch = partialmethod(_pass_on, 'before_test_epoch')
    after_test_epoch = partialmethod(_pass_on, 'after_test_epoch')
    before_train_iter = partialmethod(_pass_on, 'before_train_iter')
    after_train_iter = partialmethod(_pass_on, 'after_train_iter')
    before_val_iter = partialmethod(_pass_on, 'before_val_iter')
    after_val_iter = partialmethod(_pass_on, 'after_val_iter')
    before_test_iter = partialmethod(_pass_on, 'before_test_iter')
    after_test_iter = partialmethod(_pass_on, 'after_test_iter')


class _RoleRunner:
    """The runner, with one role in the place of the model."""

    def __init__(self, runner: Runner, model: nn.Module) -> None:
        self._runner = runner
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)
