"""Roles that start with modules of another one, as FGD, MGD and PKD give a student its teacher's neck and head."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import nn

from mmadm.utils.errors import ConfigError, near_matches

#: By heir: the role that it inherits from, and the path of a module
Bequests = dict[str, list[tuple[str, str]]]


def bequests(
    roles: nn.ModuleDict, cfgs: Mapping[str, Mapping[str, Any]], frozen: Collection[str], origins: Mapping[str, Any]
) -> Bequests:
    """Read and check what roles inherit.

    Args:
        roles: The networks.
        cfgs: Role configs by name; ``inherit=dict(teacher=['neck', 'bbox_head'])``.
        frozen: Names of roles that only teach.
        origins: Where the weights of roles with a checkpoint come from.

    Returns:
        Modules by heir.

    Raises:
        ConfigError: If there is nothing trained to inherit, or if it does not fit.
    """
    found: Bequests = {}
    for name, cfg in cfgs.items():
        for source, paths in (cfg.get('inherit') or {}).items():
            where = f'model.roles.{name}.inherit.{source}'
            if name in frozen:
                raise ConfigError(f'model.roles.{name}.inherit: a frozen role has the weights of its checkpoint')
            if source not in roles or source == name:
                raise ConfigError(f'{where}: no other role; {near_matches(source, (r for r in roles if r != name))}')
            if source not in origins:
                raise ConfigError(
                    f'{where}: without model.roles.{source}.checkpoint there is nothing trained to inherit'
                )
            for path in paths:
                _check(where, path, roles[name], roles[source], origins[source].misfit.not_loaded)
                found.setdefault(name, []).append((source, path))
    return found


def inherit(roles: nn.ModuleDict, heirs: Bequests) -> None:
    """Copy what :func:`bequests` found; to be called when the heirs are initialised."""
    for name, source, path in ((name, *bequest) for name, own in heirs.items() for bequest in own):
        roles[name].get_submodule(path).load_state_dict(roles[source].get_submodule(path).state_dict())


def _check(where: str, path: str, heir: nn.Module, source: nn.Module, random: Iterable[str]) -> None:
    if path.partition('.')[0] in ('', 'backbone'):
        raise ConfigError(f'{where}: names {path!r}; a backbone starts from `checkpoint` or its own pretrained weights')
    states = []
    for network in (heir, source):
        modules = dict(network.named_modules())
        if path not in modules:
            known = [name for name in modules if name and not name.startswith('backbone')]
            raise ConfigError(f'{where}: a role has no module {path!r}; {near_matches(path, known)}')
        states.append({key: list(value.shape) for key, value in modules[path].state_dict().items()})
    mine, theirs = states
    differing = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
    if differing:
        key = differing[0]
        raise ConfigError(
            f'{where}: {len(differing)} of {len(theirs)} tensors of {path!r} differ, such as {key} with '
            f'{theirs.get(key, "none")} there and {mine.get(key, "none")} here; name modules that are equal in both'
        )
    if any(key.startswith(f'{path}.') for key in random):
        raise ConfigError(f'{where}: {path!r} is not in the checkpoint of that role, so its weights are random')
