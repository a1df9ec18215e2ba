"""Builds one optimiser per trainable role from the config."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ALL_CONSTRUCTORS
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from mmadm.engine.optim.amp import AmpRoleOptimWrapperDict, ScaledOptimWrapper
from mmadm.engine.optim.wrapper import RoleOptimWrapperDict
from mmadm.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmadm.utils.errors import ConfigError, first_of, near_matches
from mmadm.utils.optim_config import (
    RECIPE_KEYS,
    ROLE_OPTIMISER_KEYS,
    SHARED_OPTIMISER_KEYS,
    role_optimiser,
    type_name,
)
from mmadm.utils.unwrap import unwrapped

_TYPES = ('OptimWrapper', 'AmpOptimWrapper')
#: What mmengine's default constructor reads of ``paramwise_cfg``, except names of parameters
_KINDS_OF_PARAMETERS = (
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'dwconv_decay_mult',
    'flat_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RoleOptimWrapperConstructor:
    """Builds a ``RoleOptimWrapperDict`` for an ``mmadm.Distillation`` model.

    A stock ``optim_wrapper`` can be used as it is: each trainable role gets an optimiser of its own by it, and clips
    its own gradients. A role's entry beside it replaces what it names. Either means what it means in a stock config of
    that role alone: the stock constructor sees the role's network and nothing else. Connectors follow the learning
    rate, and the rules for kinds of parameters such as ``norm_decay_mult``, but neither ``custom_keys`` nor another
    ``constructor``.

    Args:
        optim_wrapper_cfg: For all roles ``type`` (``OptimWrapper`` or ``AmpOptimWrapper``), ``dtype`` and
            ``loss_scale`` (mixed precision only) and ``accumulative_counts``; for each role by itself ``optimizer`` and
            ``clip_grad``; and entries ``<role>=dict(optimizer=..., paramwise_cfg=..., clip_grad=...,
            constructor=...)``, where an ``optimizer`` without ``type`` completes the common one. Left unchanged.
        paramwise_cfg: For each role by itself; mmengine hands it over.

    Raises:
        ConfigError: If a setting stands in the wrong place.

    Example:
        >>> optim_wrapper = dict(
        ...     constructor='mmadm.RoleOptimWrapperConstructor',
        ...     optimizer=dict(type='SGD', lr=0.01),
        ...     teacher=dict(optimizer=dict(lr=0.002), clip_grad=dict(max_norm=10)))
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        self.cfg = {**optim_wrapper_cfg, **({'paramwise_cfg': paramwise_cfg} if paramwise_cfg else {})}
        self.cfg.pop('_scope_', None)  # mmengine writes it into what comes from a `pkg::` base
        self.roles = [key for key in self.cfg if key not in SHARED_OPTIMISER_KEYS + RECIPE_KEYS]
        self._check_shared()

    def __call__(self, model: nn.Module) -> RoleOptimWrapperDict:
        """Build the optimisers.

        Args:
            model: A ``Distillation``, alone or in a wrapper such as DDP.

        Returns:
            One member per trainable role, in the order of the model.

        Raises:
            ConfigError: If there is no recipe for a trainable role or one for anything else, if one of them cannot be
                used, or if a trainable parameter is not owned by exactly one role.
        """
        inner = unwrapped(model)
        self._check_roles(inner)
        amp = type_name(self.cfg.get('type', 'OptimWrapper')) == 'AmpOptimWrapper'
        kind = ScaledOptimWrapper if amp else OptimWrapper
        members: dict[str, OptimWrapper] = {}
        for owner in inner.owners:
            # a copy, because OptimWrapper and some constructors pop from what they are given
            recipe = copy.deepcopy(role_optimiser(self.cfg, owner))
            members[owner] = kind(
                optimizer=self._optimizer(owner, inner.owned_by(owner), recipe),
                accumulative_counts=recipe.get('accumulative_counts', 1),
                clip_grad=recipe.get('clip_grad'),
            )
        _check_ownership(inner, members)
        if not amp:
            return RoleOptimWrapperDict(**members)
        scaling = {key: self.cfg[key] for key in ('dtype', 'loss_scale') if key in self.cfg}
        return AmpRoleOptimWrapperDict(**scaling, **members)

    def _optimizer(self, owner: str, owned: Any, recipe: dict[str, Any]) -> Optimizer:
        """Build an owner's optimiser as a stock training of its network would, then add its connectors."""
        cfg, paramwise_cfg = {'optimizer': recipe['optimizer']}, recipe.get('paramwise_cfg') or {}
        constructor = recipe.get('constructor', 'DefaultOptimWrapperConstructor')
        kinds = {key: value for key, value in paramwise_cfg.items() if key in _KINDS_OF_PARAMETERS}
        network = dict(owned.named_children()).get(owner)
        print_log(f'Optimiser of {owner!r}:', logger='current')
        try:
            if network is None and 'paramwise_cfg' not in self.cfg.get(owner, {}):
                # a part of a method, such as FFSD's fusion, to which the names of networks mean nothing
                return DefaultOptimWrapperConstructor(cfg, kinds)(owned).optimizer
            if network is None or (not paramwise_cfg and 'constructor' not in recipe):
                return _built(constructor, cfg, paramwise_cfg, owned).optimizer
            if not any(param.requires_grad for param in network.parameters()):
                return DefaultOptimWrapperConstructor(cfg, kinds)(owned.connectors).optimizer
            optimizer = _built(constructor, cfg, paramwise_cfg, network).optimizer
            _add_connectors(optimizer, owned.connectors, DefaultOptimWrapperConstructor(cfg, kinds))
        except Exception as error:  # constructors and optimisers are anybody's
            raise ConfigError(
                f'optim_wrapper.{owner}: {type_name(constructor)} cannot build {recipe["optimizer"]} for '
                f'{type(network or owned).__name__} ({type(error).__name__}: {error})'
            ) from error
        return optimizer

    def _check_shared(self) -> None:
        kind = type_name(self.cfg.get('type', 'OptimWrapper'))
        if kind not in _TYPES:
            raise ConfigError(f'optim_wrapper.type: found {kind!r}, need one of {list(_TYPES)}')
        for key in ('dtype', 'loss_scale'):
            if kind == 'OptimWrapper' and key in self.cfg:
                raise ConfigError(f"optim_wrapper.{key} works only with optim_wrapper.type='AmpOptimWrapper'")

    def _check_roles(self, model: Any) -> None:
        if not hasattr(model, 'owned_by'):
            raise ConfigError(
                f'optim_wrapper.constructor: RoleOptimWrapperConstructor needs a model of type mmadm.Distillation, '
                f'found {type(model).__name__}'
            )
        trainable, frozen = tuple(model.owners), tuple(model.frozen)
        for key in self.roles:
            if key in frozen:
                raise ConfigError(
                    f'optim_wrapper.{key}: role {key!r} is frozen, so it has nothing to optimise; remove this key, or '
                    f'remove {key!r} from model.frozen={list(frozen)}'
                )
            if key not in trainable:
                raise ConfigError(
                    f'optim_wrapper.{key}: no such role; trainable roles are {list(trainable)}, frozen '
                    f'{list(frozen)}; {near_matches(key, trainable + SHARED_OPTIMISER_KEYS + RECIPE_KEYS)}'
                )
            _check_entry(key, self.cfg[key])
        for role in trainable:
            _check_recipe(role, role_optimiser(self.cfg, role), trainable)


def _built(constructor: str | type, cfg: dict[str, Any], paramwise_cfg: dict[str, Any], network: nn.Module) -> Any:
    """Let a stock constructor build the optimiser of a network."""
    kind = {'type': constructor, 'optim_wrapper_cfg': cfg, 'paramwise_cfg': paramwise_cfg or None}
    return ALL_CONSTRUCTORS.build(kind)(network)


def _add_connectors(optimizer: Optimizer, connectors: nn.Module, rules: DefaultOptimWrapperConstructor) -> None:
    """Add connectors to the optimiser of the role that learns them, with its learning rate."""
    groups: list[dict[str, Any]] = []
    rules.add_params(groups, connectors, prefix='connectors')
    names = {param: name for name, param in connectors.named_parameters(prefix='connectors')}
    for group in groups:
        if 'param_names' in optimizer.param_groups[0]:  # all groups must have them, or none
            group['param_names'] = [names[param] for param in group['params']]
        optimizer.add_param_group(group)


def _check_entry(role: str, cfg: object) -> None:
    where = f'optim_wrapper.{role}'
    if not isinstance(cfg, dict):
        raise ConfigError(f"{where}: found {cfg!r}, need a dict such as dict(optimizer=dict(type='SGD', lr=0.01))")
    for key in cfg:
        if key in SHARED_OPTIMISER_KEYS:
            raise ConfigError(f'{where}.{key}: is the same for all roles; put it beside them, as optim_wrapper.{key}')
        if key not in ROLE_OPTIMISER_KEYS:
            raise ConfigError(f'{where}.{key}: unknown; {near_matches(key, ROLE_OPTIMISER_KEYS)}')


def _check_recipe(role: str, recipe: dict[str, Any], trainable: tuple[str, ...]) -> None:
    _check_clipping(f'optim_wrapper.{role}.clip_grad', recipe.get('clip_grad'))
    optimizer = recipe.get('optimizer')
    if not isinstance(optimizer, dict) or 'type' not in optimizer:
        raise ConfigError(
            f'optim_wrapper.{role}: missing; every trainable role needs an optimizer, either one beside the roles for '
            f"all or an entry such as {role}=dict(optimizer=dict(type='SGD', lr=0.01)); found {optimizer!r}; "
            f'trainable roles are {list(trainable)}'
        )
    for key in recipe.get('paramwise_cfg') or {}:
        if 'constructor' not in recipe and key not in (*_KINDS_OF_PARAMETERS, 'custom_keys'):
            raise ConfigError(
                f'optim_wrapper: paramwise_cfg.{key} of role {role!r} means nothing to the default constructor; name '
                f'the constructor that it is for, as optim_wrapper.{role}.constructor'
            )


def _check_clipping(key: str, cfg: Any) -> None:
    """Clip a gradient of zero, so that what torch does not take fails here and not after the first backward pass."""
    if cfg is None:
        return
    try:
        options = dict(cfg)
        clip: Any = dict(norm=clip_grad_norm_, value=clip_grad_value_)[options.pop('type', 'norm')]
        weight = torch.zeros(1, requires_grad=True)
        weight.grad = torch.zeros(1)
        clip(weight, **options)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f'{key}={cfg!r}: must be a dict, such as dict(max_norm=10) ({error})') from error


def _check_ownership(model: nn.Module, members: dict[str, OptimWrapper]) -> None:
    owners: dict[nn.Parameter, list[str]] = defaultdict(list)
    for role, member in members.items():
        for group in member.optimizer.param_groups:
            for param in group['params']:
                owners[param].append(role)
    trainable = {name: param for name, param in model.named_parameters() if param.requires_grad}
    unowned = [name for name, param in trainable.items() if param not in owners]
    if unowned:
        raise ConfigError(f'optim_wrapper: no role owns {first_of(unowned)}; they would never be trained')
    twice = [f'{name} ({", ".join(owners[param])})' for name, param in trainable.items() if len(owners[param]) > 1]
    if twice:
        raise ConfigError(f'optim_wrapper: owned by several roles: {first_of(twice)}; they would be stepped twice')
