"""What a training of several roles must not start with: settings that would spoil it or break it later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn

from mmadm.engine.hooks.ema import RoleEMAHook
from mmadm.utils.errors import ConfigError


def check_optimiser(wrapper: Any, model: nn.Module) -> None:
    """Refuse one optimiser for all roles that clips the norm of all gradients together.

    The gradients of one role would then change the step of another, with no distiller between them.

    Args:
        wrapper: The optimiser of the training; its config, where nothing is trained.
        model: The model without a wrapper such as DDP.

    Raises:
        ConfigError: Names the line that makes each role clip by itself.
    """
    owners = list(getattr(model, 'owners', ()))
    single = isinstance(wrapper, OptimWrapper) and not isinstance(wrapper, OptimWrapperDict)
    if len(owners) < 2 or not single or not wrapper.clip_grad_kwargs:
        return
    if wrapper.grad_name == 'grad_norm':
        raise ConfigError(
            f'optim_wrapper.clip_grad: would clip {owners} by one norm over all of them; add '
            "optim_wrapper.constructor='mmadm.RoleOptimWrapperConstructor', which gives each its own optimiser by the "
            'same settings'
        )


def check_hooks(hooks: Iterable[Hook], model: nn.Module) -> None:
    """Refuse stock hooks that take the model for a single network.

    Args:
        hooks: All hooks of the training.
        model: The model without a wrapper such as DDP.

    Raises:
        ConfigError: Names the hook and what to write in its place.
    """
    for hook in hooks:
        if isinstance(hook, EMAHook) and not isinstance(hook, RoleEMAHook) and len(model.roles) > 1:
            raise ConfigError(
                'custom_hooks: EMAHook would average all roles as one model, and copy frozen ones; write '
                "dict(type='mmadm.RoleEMAHook', ...) with the same arguments, for the deploy role or those in `roles`"
            )


def check_training(runner: Runner, model: nn.Module) -> None:
    """Check everything that can be known before training.

    Args:
        runner: The runner, with its optimiser built.
        model: Its model without a wrapper such as DDP.

    Raises:
        ConfigError: Names the first key that must change.
    """
    check_optimiser(runner.optim_wrapper, model)
    check_hooks(runner.hooks, model)
