"""What a training of several roles must not start with: settings that would spoil it or break it later."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, EMAHook, Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmadm.engine.hooks.ema import RoleEMAHook
from mmadm.engine.loops import RoleValLoop
from mmadm.utils.errors import ConfigError, near_matches
from mmadm.utils.weights import read_weights

#: Hooks of the toolboxes that take the model for a network of one kind, and fail
FOR_ONE_NETWORK = ('YOLOXModeSwitchHook', 'SetEpochInfoHook', 'NumClassCheckHook')
#: Packages whose hooks are known
_KNOWN = ('mmengine', 'mmadm', 'mmdet', 'mmseg')


def check_training(runner: Runner, model: nn.Module) -> None:
    """Check everything that can be known before training.

    Args:
        runner: The runner, before it trains; where it only validates or tests, there is nothing to check.
        model: Its model without a wrapper such as DDP.

    Raises:
        ConfigError: Names the first key that must change.
        CheckpointError: If ``load_from`` is a URL of which nothing can be loaded.
    """
    if not isinstance(runner.optim_wrapper, OptimWrapper):
        return
    if runner._load_from and '://' in str(runner._load_from):  # mmengine would run what a download may hold
        read_weights(runner._load_from, 'load_from')
    if runner.cfg.get('compile'):
        raise ConfigError(
            'compile: would compile whole training steps again and again, as taps and random streams change with each; '
            'write model=dict(compile=True), which compiles the frozen roles'
        )
    check_optimiser(runner.optim_wrapper, model)
    check_hooks(runner.hooks, model)
    check_scheduled_roles(runner.cfg.get('param_scheduler'), runner.optim_wrapper, model)
    check_schedules(runner, model)
    if runner.val_loop is not None:
        check_metrics(runner, model)


def check_optimiser(wrapper: OptimWrapper, model: Any) -> None:
    """Refuse one optimiser for all roles that clips the norm of all gradients together.

    The gradients of one role would then change the step of another, with no distiller between them.

    Args:
        wrapper: The optimiser of the training.
        model: The model without a wrapper such as DDP.

    Raises:
        ConfigError: Names the line that makes each role clip by itself.
    """
    owners = list(model.owners)
    if len(owners) < 2 or isinstance(wrapper, OptimWrapperDict) or not wrapper.clip_grad_kwargs:
        return
    if wrapper.grad_name == 'grad_norm':
        raise ConfigError(
            f'optim_wrapper.clip_grad: would clip {owners} by one norm over all of them; add '
            "optim_wrapper.constructor='mmadm.RoleOptimWrapperConstructor', which gives each its own optimiser by the "
            'same settings'
        )


def check_hooks(hooks: Iterable[Hook], model: Any) -> None:
    """Refuse stock hooks that take the model for a single network, and warn of a user's own that may.

    Args:
        hooks: All hooks of the training.
        model: The model without a wrapper such as DDP.

    Raises:
        ConfigError: Names the hook and what to write in its place.
    """
    for hook in hooks:
        name = type(hook).__name__
        if isinstance(hook, EMAHook) and not isinstance(hook, RoleEMAHook) and len(model.roles) > 1:
            raise ConfigError(
                f'custom_hooks: {name} would average all roles as one model, and copy frozen ones; write '
                "dict(type='mmadm.RoleEMAHook', ...) with the same arguments, for the deploy role or those in `roles`"
            )
        if name in FOR_ONE_NETWORK:
            raise ConfigError(
                f'custom_hooks: {name} reaches into a single network; write '
                f"dict(type='mmadm.RoleHook', hook=dict(type='{name}', ...)), which runs it on every trainable role"
            )
        if name == 'MeanTeacherHook':
            raise ConfigError(
                'custom_hooks: MeanTeacherHook moves the teacher of a semi-supervised detector; remove it: a frozen '
                'role stays as its checkpoint is, and averages of a role are made by mmadm.RoleEMAHook'
            )
        if type(hook).__module__.partition('.')[0] not in _KNOWN and 'runner.model' in _source(hook):
            hint = f"dict(type='mmadm.RoleHook', hook=dict(type='{name}', ...))"
            print_log(
                f'custom_hooks: {name} uses runner.model, which holds all roles; if it is meant for one network, write '
                f'{hint}.',
                'current',
                logging.WARNING,
            )


def check_scheduled_roles(schedule: Any, wrapper: Any, model: Any) -> None:
    """Refuse learning rates by role that lack one or name another.

    Args:
        schedule: ``param_scheduler`` of the config.
        wrapper: The optimiser of the training, or its config.
        model: The model without a wrapper such as DDP.

    Raises:
        ConfigError: Names the role.
    """
    if not isinstance(schedule, Mapping) or 'type' in schedule or not hasattr(model, 'owners'):
        return
    owners = list(model.owners)
    if isinstance(wrapper, Mapping) and 'constructor' not in wrapper:
        raise ConfigError(
            'param_scheduler: is a dict by role, but optim_wrapper makes one optimiser for all; add '
            "optim_wrapper.constructor='mmadm.RoleOptimWrapperConstructor'"
        )
    for name in (name for name in schedule if name not in owners):
        raise ConfigError(f'param_scheduler.{name}: nothing of this name learns; {near_matches(name, owners)}')
    for name in (name for name in owners if name not in schedule):
        raise ConfigError(
            f'param_scheduler: has entries for {list(schedule)}, but none for {name!r}, which learns, too; add one, '
            f'{name}=[] for a constant learning rate'
        )


def check_schedules(runner: Runner, model: Any) -> None:
    """Refuse weights of distillers that change by epoch in a training that does not count epochs.

    Args:
        runner: The runner.
        model: Its model without a wrapper such as DDP.

    Raises:
        ConfigError: Names the distiller.
    """
    for name, distiller in model.distillers.items():
        if distiller.schedule.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ConfigError(
                f'model.distillers: schedule.by_epoch=True of {name!r}: this training counts iterations, so no epoch '
                'ever ends; give iterations without by_epoch, or set train_cfg.by_epoch=True with max_epochs'
            )


def check_metrics(runner: Runner, model: Any) -> None:
    """Refuse names of metrics that validation will not give: ``mIoU`` where it is ``student/mIoU``, and the reverse.

    Args:
        runner: The runner.
        model: Its model without a wrapper such as DDP.

    Raises:
        ConfigError: Names the key and the right name.
    """
    loop = runner.val_loop
    if type(loop).__name__ == 'TeacherStudentValLoop':
        raise ConfigError(
            'val_cfg.type: TeacherStudentValLoop scores a semi-supervised detector; write '
            "dict(type='mmadm.RoleValLoop', role_val=True), which scores every trainable role"
        )
    for key, metric in _monitored(runner):
        role, _, bare = metric.partition('/')
        if role not in model.roles:
            role, bare = '', metric
        if isinstance(loop, RoleValLoop) and role not in loop.roles:
            raise ConfigError(
                f'{key}={metric!r}: validation by mmadm.RoleValLoop names the metrics of roles {list(loop.roles)}; '
                f'write {loop.roles[0] + "/" + bare!r}'
            )
        if role and not isinstance(loop, RoleValLoop):
            raise ConfigError(
                f'{key}={metric!r}: validation by {type(loop).__name__} names no roles; write {bare!r}, or set '
                "val_cfg.type to 'mmadm.RoleValLoop'"
            )


def _monitored(runner: Runner) -> Iterator[tuple[str, str]]:
    """Config keys that name a metric of validation, and the names."""
    for hook in runner.hooks:
        if isinstance(hook, EarlyStoppingHook):
            yield 'custom_hooks: EarlyStoppingHook.monitor', hook.monitor
        if isinstance(hook, CheckpointHook) and hook.save_best:
            best = [hook.save_best] if isinstance(hook.save_best, str) else hook.save_best
            yield from (('default_hooks.checkpoint.save_best', metric) for metric in best if metric != 'auto')
    schedulers = runner.param_schedulers
    for listed in schedulers.values() if isinstance(schedulers, Mapping) else [schedulers or []]:
        for scheduler in listed:
            if getattr(scheduler, 'need_val_args', False):
                yield f'param_scheduler: {type(scheduler).__name__}.monitor', scheduler.monitor


def _source(hook: Any) -> str:
    try:
        return inspect.getsource(type(hook))
    except (OSError, TypeError):  # defined in an interactive session
        return ''
