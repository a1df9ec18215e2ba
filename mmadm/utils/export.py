"""From a training of several roles to what stock mmseg and mmdet use: one role's checkpoint and config."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from mmadm.utils.checkpoint import read_checkpoint
from mmadm.utils.config import drop_empty_hooks, role_cfgs, role_model_cfg
from mmadm.utils.errors import CheckpointError, ConfigError, near_matches
from mmadm.utils.optim_config import role_optimiser, type_name
from mmadm.utils.weights import read_weights

#: Entry of ``meta``: files of the roles that a full checkpoint does not hold
_LEFT_OUT = 'left_out'
#: Entry of ``meta``: fingerprints of their weights
_LEFT_OUT_WEIGHTS = 'left_out_weights'
_TRAINING = ('train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler')
_ROLE_OPTIMISERS = 'RoleOptimWrapperConstructor'


def role_file(path: str | Path, role: str) -> Path:
    """Path of the role file that belongs to a full checkpoint: ``iter_8.pth`` gives ``iter_8_student.pth``."""
    path = Path(path)
    return path.with_name(f'{path.stem}_{role}{path.suffix}')


def leave_out_role(checkpoint: dict[str, Any], role: str, file: str, weights: str) -> None:
    """Take a frozen role out of a full checkpoint.

    Args:
        checkpoint: The full checkpoint; changed.
        role: Name of the role.
        file: Where its weights are, which is noted in ``meta``.
        weights: Their :func:`fingerprint`, likewise.
    """
    state = checkpoint['state_dict']
    for key in [key for key in state if key.startswith(f'roles.{role}.')]:
        del state[key]
    checkpoint['meta'].setdefault(_LEFT_OUT, {})[role] = file
    checkpoint['meta'].setdefault(_LEFT_OUT_WEIGHTS, {})[role] = weights


def left_out_weights(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprints of the roles that a full checkpoint does not hold, by role."""
    found: dict[str, str] = checkpoint.get('meta', {}).get(_LEFT_OUT_WEIGHTS, {})
    return found


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """A number that other weights do not have.

    Args:
        state: A state dict.
    """
    made = sha256()
    for key, value in state.items():
        made.update(f'{key}{tuple(value.shape)}{value.dtype}'.encode())
        made.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return made.hexdigest()


def extract_role(checkpoint: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Make a role's stock checkpoint.

    Args:
        checkpoint: A full mmadm checkpoint, or a role file of this role.
        role: Name of the role.

    Returns:
        ``meta``, with the role's name added, and ``state_dict`` with exactly the keys of the stock model.

    Raises:
        CheckpointError: If the checkpoint does not hold this role.
    """
    meta, state = checkpoint['meta'], checkpoint['state_dict']
    prefix = f'roles.{role}.'
    picked: Any = OrderedDict(  # a plain one has no _metadata
        (key.removeprefix(prefix), value) for key, value in state.items() if key.startswith(prefix)
    )
    if picked:
        # versions of modules: some stock modules rename keys of a state dict that has none
        versions = getattr(state, '_metadata', {})
        picked._metadata = OrderedDict(
            (name.removeprefix(prefix.rstrip('.')).lstrip('.'), value)
            for name, value in versions.items()
            if f'{name}.'.startswith(prefix)
        )
        return {'meta': {**meta, 'role': role}, 'state_dict': picked}
    held = sorted({key.split('.')[1] for key in state if key.startswith('roles.')})
    if not held and meta.get('role') == role:
        return {'meta': meta, 'state_dict': state}
    if not held and 'role' not in meta:
        raise CheckpointError(f'no role {role!r}: this is a checkpoint of a single stock model, not of mmadm')
    raise CheckpointError(f'no role {role!r} in the checkpoint; {near_matches(role, held or [meta["role"]])}')


def read_role(path: str | Path, role: str) -> dict[str, Any]:
    """Read a role's stock checkpoint from a file, see :func:`extract_role`.

    Args:
        path: A full mmadm checkpoint, or a role file of this role. A frozen role that it leaves out is read from the
            file that it names.
        role: Name of the role.

    Raises:
        CheckpointError: If the file cannot be read or does not hold this role.
    """
    checkpoint = read_checkpoint(path)
    if role in checkpoint['meta'].get(_LEFT_OUT, {}):
        where = f'{path} leaves out frozen role {role!r}: checkpoint'
        state, meta = read_weights(checkpoint['meta'][_LEFT_OUT][role], where)
        config = {'cfg': checkpoint['meta']['cfg']} if 'cfg' in checkpoint['meta'] else {}
        return {'meta': {**meta, **config, 'role': role}, 'state_dict': state}
    try:
        return extract_role(checkpoint, role)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from None


def role_config(cfg: Config, role: str) -> Config:
    """Make a role's stock config.

    Data sets and evaluators stay, as do the role's own optimiser and schedule; what only several roles need goes.
    So does the whole training part for a frozen role, which has no optimiser.

    Args:
        cfg: Config of an ``mmadm.Distillation`` training.
        role: Name of the role.

    Returns:
        A new config of the stock model.

    Raises:
        ConfigError: If the config has no such role.
    """
    roles = cfg.get('model', {}).get('roles')
    if not isinstance(roles, Mapping):
        raise ConfigError(f'model: found {cfg.get("model", {}).get("type")!r}, which has no roles to choose from')
    if role not in roles:
        raise ConfigError(f'model.roles has no {role!r}; {near_matches(role, roles)}')
    # classes of a new-style config become their paths, without which it could not be written to a file
    stock = Config(deepcopy(cfg.to_dict()))
    frozen = role in cfg.model.get('frozen', ())
    stock.model = role_model_cfg(role_cfgs(roles)[role])
    preprocessor = cfg.model.get('data_preprocessor', cfg.get('data_preprocessor'))
    if preprocessor is not None:
        stock.model.setdefault('data_preprocessor', preprocessor)
    # these say how the former run was started and what it began from
    for key in ('work_dir', 'load_from', 'resume', 'launcher'):
        stock.pop(key, None)
    if 'optim_wrapper' in stock:
        _keep_training(stock, role, frozen)
    for key, loop in (('val_cfg', 'ValLoop'), ('test_cfg', 'TestLoop')):
        if _is_ours(stock.get(key)):
            stock[key] = dict(type=loop)
    _keep_hooks(stock, role, cfg.model)
    return stock


def _keep_training(stock: Config, role: str, frozen: bool) -> None:
    """Leave the optimiser and schedule of one role, or nothing to train with."""
    if frozen:
        for key in _TRAINING:
            stock.pop(key, None)
        return
    wrapper = stock.optim_wrapper
    if type_name(wrapper.get('constructor', '')) == _ROLE_OPTIMISERS:
        stock.optim_wrapper = role_optimiser(wrapper, role)
    schedule = stock.get('param_scheduler')
    if isinstance(schedule, Mapping) and 'type' not in schedule:
        stock.param_scheduler = schedule.get(role)


def _keep_hooks(stock: Config, role: str, model: Mapping[str, Any]) -> None:
    """Turn our hooks into the stock ones that do the same for this role, and drop the others."""
    drop_empty_hooks(stock)
    defaults = stock.get('default_hooks') or {}
    for name, hook in list(defaults.items()):
        kept = _stock_hook(hook, role, model)
        if kept:
            defaults[name] = kept[0]
        else:
            del defaults[name]
    if stock.get('custom_hooks'):
        stock.custom_hooks = [kept for hook in stock.custom_hooks for kept in _stock_hook(hook, role, model)]


def _stock_hook(hook: Any, role: str, model: Mapping[str, Any]) -> list[Any]:
    """The stock hook that does for one network what this one does for a role; an empty list if there is none."""
    if not isinstance(hook, Mapping):  # one that is switched off
        return [hook]
    name, roles = type_name(hook['type']), hook.get('roles')
    rest = {key: value for key, value in hook.items() if key not in ('type', 'roles', 'hook')}
    if name == 'EarlyStoppingHook':
        return [dict(hook, monitor=metric) for metric in _stock_metrics([hook['monitor']], role, model)]
    if not _is_ours(hook):
        return [hook]
    if name == 'RoleCheckpointHook':
        best = rest.pop('save_best', None)
        listed = _stock_metrics([best] if isinstance(best, str) else best or [], role, model)
        found = {'save_best': listed[0] if isinstance(best, str) else listed} if listed else {}
        return [dict(rest, type='CheckpointHook', **found)]
    if name == 'RoleEMAHook' and role in (roles or [model.get('deploy', 'student')]):
        return [dict(rest, type='EMAHook')]
    if name == 'RoleHook' and role in (roles or [role]):
        return [dict(hook['hook'], **rest)]
    return []


def _stock_metrics(metrics: Sequence[str], role: str, model: Mapping[str, Any]) -> list[str]:
    """What stock validation calls metrics; those of other roles are no use."""
    others = [f'{other}/' for other in model['roles'] if other != role]
    return [metric.removeprefix(f'{role}/') for metric in metrics if not metric.startswith(tuple(others))]


def _is_ours(cfg: Any) -> bool:
    if not isinstance(cfg, Mapping):
        return False
    kind = cfg.get('type', '')
    return str(kind.__module__ if isinstance(kind, type) else kind).startswith('mmadm.')
