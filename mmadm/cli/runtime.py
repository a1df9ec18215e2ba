"""What a distillation needs beside its model that a stock config does not have: role files, guards, scores by role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmadm.cli.networks import kind_of
from mmadm.engine.preflight import FOR_ONE_NETWORK

#: Hooks that every distillation gets, by their name in ``default_hooks``
GUARDS = {'guard': 'NonFiniteGuardHook', 'teacher_guard': 'TeacherGuardHook'}
#: What mmengine takes where a config names no checkpoint hook
_DEFAULT_CHECKPOINT = {'type': 'CheckpointHook', 'interval': 1}


def is_distillation(cfg: Mapping[str, Any]) -> bool:
    """Whether a config trains several roles, not a stock model."""
    return kind_of(cfg.get('model') or {}) == 'Distillation'


def role_settings(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a distillation lacks, to be merged into its config.

    A stock checkpoint hook becomes one that writes role files and resumes exactly, stock validation scores every
    trainable role, hooks for a single network (averages, YOLOX's switch) run on each trainable role, what watches a
    metric watches the deploy role's, and both guards are there. What a user wrote of another kind stays.

    Args:
        cfg: Config whose ``model`` is an ``mmadm.Distillation``.

    Returns:
        Only what differs.
    """
    model = cfg['model']
    deploy, frozen = model.get('deploy', 'student'), model.get('frozen', ())
    trainable = [role for role in model.get('roles', ()) if role not in frozen]
    settings: dict[str, Any] = {}
    val = cfg.get('val_cfg')
    by_role = bool(val) and kind_of(val) in ('', 'ValLoop')
    if by_role:
        settings['val_cfg'] = {'type': 'mmadm.RoleValLoop', **({'role_val': True} if len(trainable) > 1 else {})}
    hooks = _hooks(cfg, deploy, by_role, bool(frozen))
    if hooks:
        settings['default_hooks'] = hooks
    custom = [_for_roles(hook, trainable, deploy if by_role else None) for hook in cfg.get('custom_hooks') or ()]
    if custom != list(cfg.get('custom_hooks') or ()):
        settings['custom_hooks'] = custom
    schedule = _watched(cfg.get('param_scheduler'), deploy) if by_role else None
    if schedule != cfg.get('param_scheduler') and schedule:
        settings['param_scheduler'] = schedule
    return settings


def _for_roles(hook: Any, trainable: list[str], deploy: str | None) -> Any:
    """A stock hook that takes the model for one network, as it works on each role that learns.

    Args:
        hook: Config of a hook.
        trainable: These roles.
        deploy: The role whose metric a hook watches; None where metrics have no role.
    """
    if not isinstance(hook, Mapping):
        return hook
    if kind_of(hook) == 'EMAHook':
        return {**hook, 'type': 'mmadm.RoleEMAHook', 'roles': trainable}
    if kind_of(hook) in FOR_ONE_NETWORK:
        outer = {'priority': hook['priority']} if 'priority' in hook else {}
        return {'type': 'mmadm.RoleHook', 'hook': {k: v for k, v in hook.items() if k != 'priority'}, **outer}
    return _watched(hook, deploy) if deploy else hook


def _watched(cfg: Any, deploy: str) -> Any:
    """Hooks and schedules that watch a metric watch that of the deploy role."""
    if isinstance(cfg, list | tuple):
        return [_watched(one, deploy) for one in cfg]
    if isinstance(cfg, Mapping) and isinstance(cfg.get('monitor'), str) and 'loss' not in cfg['monitor']:
        return {**cfg, 'monitor': _of_role(cfg['monitor'], deploy)}
    return cfg


def _hooks(cfg: Mapping[str, Any], deploy: str, by_role: bool, teaches: bool) -> dict[str, Any]:
    default = cfg.get('default_hooks') or {}
    present = {kind_of(hook) for hook in [*default.values(), *(cfg.get('custom_hooks') or ())] if hook}
    hooks: dict[str, Any] = {}
    checkpoint = default.get('checkpoint', _DEFAULT_CHECKPOINT)
    if checkpoint and kind_of(checkpoint) == 'CheckpointHook':
        hooks['checkpoint'] = {'type': 'mmadm.RoleCheckpointHook'}
        if 'checkpoint' not in default:
            hooks['checkpoint']['interval'] = _DEFAULT_CHECKPOINT['interval']
        best = checkpoint.get('save_best')
        if best and by_role:
            hooks['checkpoint']['save_best'] = _of_role(best, deploy)
    for name, kind in GUARDS.items():
        if kind not in present and name not in default and (name != 'teacher_guard' or teaches):
            hooks[name] = {'type': f'mmadm.{kind}'}
    return hooks


def _of_role(metric: Any, role: str) -> Any:
    """Name of a metric, or names, as validation by role gives them."""
    if not isinstance(metric, str):
        return [_of_role(one, role) for one in metric]
    return metric if metric == 'auto' or metric.startswith(f'{role}/') else f'{role}/{metric}'


def add_role_settings(cfg: Config) -> dict[str, Any]:
    """Add to a config what :func:`role_settings` finds missing.

    Args:
        cfg: Config; changed if it is a distillation.

    Returns:
        What was added.
    """
    settings = role_settings(cfg) if is_distillation(cfg) else {}
    if 'default_hooks' in settings and cfg.get('default_hooks') is None:
        cfg.default_hooks = {}
    cfg.merge_from_dict(settings)
    return settings
