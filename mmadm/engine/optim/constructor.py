"""Builds one optimiser per trainable role from the config."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mmadm.engine.optim.amp import AmpRoleOptimWrapperDict, ScaledOptimWrapper
from mmadm.engine.optim.wrapper import RoleOptimWrapperDict
from mmadm.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmadm.utils.config import SHARED_OPTIMISER_KEYS
from mmadm.utils.errors import ConfigError, near_matches
from mmadm.utils.unwrap import unwrapped

_ROLE_KEYS = ('optimizer', 'paramwise_cfg', 'clip_grad')
_TYPES = ('OptimWrapper', 'AmpOptimWrapper')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RoleOptimWrapperConstructor:
    """Builds a ``RoleOptimWrapperDict`` for an ``mmadm.Distillation`` model.

    A role's entry means what it means in a stock config of that role alone: mmengine's own constructor builds it, from
    everything that ``model.owned_by(role)`` holds.

    Args:
        optim_wrapper_cfg: One entry ``<role>=dict(optimizer=..., paramwise_cfg=..., clip_grad=...)`` per trainable
            role; beside them, for all roles, ``type`` (``'OptimWrapper'`` or ``'AmpOptimWrapper'``), ``dtype`` and
            ``loss_scale`` (mixed precision only) and ``accumulative_counts``. Left unchanged.
        paramwise_cfg: Must be None; mmengine hands it over when it stands beside the roles.

    Raises:
        ConfigError: If a setting stands in the wrong place.

    Example:
        >>> optim_wrapper = dict(
        ...     constructor='mmadm.RoleOptimWrapperConstructor',
        ...     student=dict(optimizer=dict(type='SGD', lr=0.01)),
        ...     teacher=dict(optimizer=dict(type='SGD', lr=0.01), clip_grad=dict(max_norm=10)))
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        if paramwise_cfg is not None:
            raise ConfigError(
                f'optim_wrapper.paramwise_cfg: found {paramwise_cfg} beside the roles; put it into the role it is '
                'meant for, as optim_wrapper.<role>.paramwise_cfg'
            )
        self.shared = {key: value for key, value in optim_wrapper_cfg.items() if key in SHARED_OPTIMISER_KEYS}
        self.roles = {key: value for key, value in optim_wrapper_cfg.items() if key not in SHARED_OPTIMISER_KEYS}
        self._check_shared()

    def __call__(self, model: nn.Module) -> RoleOptimWrapperDict:
        """Build the optimisers.

        Args:
            model: A ``Distillation``, alone or in a wrapper such as DDP.

        Returns:
            One member per trainable role, in the order of the config.

        Raises:
            ConfigError: If the entries are not exactly the trainable roles, if one of them cannot be used, or if a
                trainable parameter is not owned by exactly one role.
        """
        model = unwrapped(model)
        self._check_roles(model)
        shared = dict(self.shared)
        amp = shared.pop('type', 'OptimWrapper') == 'AmpOptimWrapper'
        common: dict[str, Any] = {'type': ScaledOptimWrapper if amp else OptimWrapper}
        if 'accumulative_counts' in shared:
            common['accumulative_counts'] = shared.pop('accumulative_counts')
        members: dict[str, OptimWrapper] = {}
        for role, role_cfg in self.roles.items():
            # a copy, because OptimWrapper pops from clip_grad
            cfg = {**copy.deepcopy(dict(role_cfg)), **common}
            paramwise_cfg = cfg.pop('paramwise_cfg', None)
            members[role] = DefaultOptimWrapperConstructor(cfg, paramwise_cfg)(model.owned_by(role))
        _check_ownership(model, members)
        return AmpRoleOptimWrapperDict(**shared, **members) if amp else RoleOptimWrapperDict(**members)

    def _check_shared(self) -> None:
        kind = self.shared.get('type', 'OptimWrapper')
        if kind not in _TYPES:
            raise ConfigError(f'optim_wrapper.type: found {kind!r}, need one of {list(_TYPES)}')
        for key in ('dtype', 'loss_scale'):
            if kind == 'OptimWrapper' and key in self.shared:
                raise ConfigError(f"optim_wrapper.{key} works only with optim_wrapper.type='AmpOptimWrapper'")

    def _check_roles(self, model: nn.Module) -> None:
        if not hasattr(model, 'owned_by'):
            raise ConfigError(
                f'optim_wrapper.constructor: RoleOptimWrapperConstructor needs a model of type mmadm.Distillation, '
                f'found {type(model).__name__}'
            )
        trainable, frozen = tuple(model.owners), tuple(model.frozen)
        for key, role_cfg in self.roles.items():
            if key in frozen:
                raise ConfigError(
                    f'optim_wrapper.{key}: role {key!r} is frozen, so it has nothing to optimise; remove this key, or '
                    f'remove {key!r} from model.frozen={list(frozen)}'
                )
            if key not in trainable:
                raise ConfigError(
                    f'optim_wrapper.{key}: no such role; trainable roles are {list(trainable)}, frozen '
                    f'{list(frozen)}; {_hint(key, trainable)}'
                )
            _check_role_cfg(key, role_cfg)
        for role in trainable:
            if role not in self.roles:
                raise ConfigError(
                    f'optim_wrapper.{role}: missing; every trainable role needs an entry such as '
                    f"{role}=dict(optimizer=dict(type='SGD', lr=0.01)); trainable roles are {list(trainable)}, found "
                    f'{list(self.roles)}'
                )


def _hint(key: str, trainable: tuple[str, ...]) -> str:
    if key not in _ROLE_KEYS:
        return near_matches(key, trainable + SHARED_OPTIMISER_KEYS)
    return (
        f'put {key} into each role; if it comes from a _base_ file, add _delete_=True to optim_wrapper, so that what '
        'is inherited is dropped'
    )


def _check_role_cfg(role: str, cfg: object) -> None:
    where = f'optim_wrapper.{role}'
    if not isinstance(cfg, dict) or not isinstance(cfg.get('optimizer'), dict) or 'type' not in cfg['optimizer']:
        raise ConfigError(f"{where}: found {cfg!r}, need a dict such as dict(optimizer=dict(type='SGD', lr=0.01))")
    for key in cfg:
        if key in SHARED_OPTIMISER_KEYS:
            raise ConfigError(f'{where}.{key}: is the same for all roles; put it beside them, as optim_wrapper.{key}')
        if key not in _ROLE_KEYS:
            raise ConfigError(f'{where}.{key}: unknown; {near_matches(key, _ROLE_KEYS)}')


def _check_ownership(model: nn.Module, members: dict[str, OptimWrapper]) -> None:
    owners: dict[nn.Parameter, list[str]] = defaultdict(list)
    for role, member in members.items():
        for group in member.optimizer.param_groups:
            for param in group['params']:
                owners[param].append(role)
    trainable = {name: param for name, param in model.named_parameters() if param.requires_grad}
    unowned = [name for name, param in trainable.items() if param not in owners]
    if unowned:
        raise ConfigError(f'optim_wrapper: no role owns {_shorten(unowned)}; they would never be trained')
    twice = [f'{name} ({", ".join(owners[param])})' for name, param in trainable.items() if len(owners[param]) > 1]
    if twice:
        raise ConfigError(f'optim_wrapper: owned by several roles: {_shorten(twice)}; they would be stepped twice')


def _shorten(names: list[str]) -> str:
    shown = ', '.join(names[:10])
    return shown if len(names) <= 10 else f'{shown}, ... ({len(names)} parameters in all)'
