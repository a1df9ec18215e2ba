"""Build the distillers from their configs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from inspect import signature
from itertools import count
from typing import Any

from mmadm.distillers import Distiller
from mmadm.registry import MODELS
from mmadm.structures import RoleOutput
from mmadm.utils.errors import ConfigError, near_matches, require_dict, require_numbers
from mmadm.utils.optim_config import type_name

EXAMPLE = "dict(type='mmadm.Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence'))"


def build_distillers(cfgs: Sequence[Mapping[str, Any]], roles: Iterable[str]) -> dict[str, Distiller]:
    """Build ``model.distillers``.

    Args:
        cfgs: Config of each distiller.
        roles: Names of all roles.

    Returns:
        The distillers by the name that their weights have in a checkpoint: their ``name``, else the type in lower
        case, numbered among those of one type from the second one on.

    Raises:
        ConfigError: If one of them cannot be built or names a role that does not exist, if two have one name, or if
            two may pause one role.
    """
    if not isinstance(cfgs, list | tuple):
        raise ConfigError(f'model.distillers={cfgs!r}: must be a list, such as [{EXAMPLE}]')
    built: dict[str, Distiller] = {}
    for index, cfg in enumerate(cfgs):
        key = f'model.distillers[{index}]'
        require_dict(key, cfg, EXAMPLE)
        distiller = _build(key, cfg)
        for role in distiller.taps():
            if role not in roles:
                raise ConfigError(f'{key}: no role {role!r}; {near_matches(role, roles)}')
        built[_name(key, cfg, type(distiller).__name__.lower(), built)] = distiller
    _check_one_pauses(built.values())
    return built


def rename_former_connectors(distillers: Mapping[str, Distiller], state: dict[str, Any], prefix: str) -> None:
    """Give the connectors of a checkpoint of version 0.1 the names of today.

    There the number of a distiller was its place among all of them, so that a new one renamed those behind it.

    Args:
        distillers: By name, in their order.
        state: State dict of the whole model; changed if it has former names.
        prefix: What stands before ``connectors`` in its keys.
    """
    former: dict[str, str] = {}
    for index, (name, distiller) in enumerate(distillers.items()):
        kind = type(distiller).__name__.lower()
        former[kind if kind not in former else f'{kind}_{index}'] = name
    start = f'{prefix}connectors.'
    held = {key[len(start) :].partition('.')[0] for key in state if key.startswith(start)}
    if held <= set(distillers) or not held <= set(former):
        return
    moved = {key: state.pop(key) for key in [key for key in state if key.startswith(start)]}
    for key, value in moved.items():
        name, _, rest = key[len(start) :].partition('.')
        state[f'{start}{former[name]}.{rest}'] = value


def _name(key: str, cfg: Mapping[str, Any], kind: str, taken: Collection[str]) -> str:
    name = cfg.get('name')
    if name is None:
        numbers = (f'{kind}_{number}' if number else kind for number in count())
        return next(free for free in numbers if free not in taken)
    if not str(name).isidentifier() or name in taken:
        raise ConfigError(
            f'{key}.name={name!r}: must be a word of letters, digits and _, and different from {list(taken)}'
        )
    return str(name)


def _check_one_pauses(distillers: Iterable[Distiller]) -> None:
    """Raise ConfigError if two distillers may pause one role, of whose decisions one would be lost."""
    deciding: dict[str, int] = {}
    for index, distiller in enumerate(distillers):
        for role in distiller.may_pause if distiller.weighted else ():
            first = deciding.setdefault(role, index)
            if first != index:
                raise ConfigError(
                    f'model.distillers[{first}] and model.distillers[{index}]: both may pause role {role!r}, but only '
                    'one can decide; remove one, set its weight to 0 or give it another teacher'
                )


def check_reached(distillers: Mapping[str, Distiller], outputs: Mapping[str, RoleOutput]) -> None:
    """Refuse a learner's tap before which nothing learns: its loss would move a connector at most.

    Args:
        distillers: Those that are computed.
        outputs: What the roles produced with gradients enabled.

    Raises:
        ConfigError: Names the tap.
    """
    for name, distiller in distillers.items():
        for edge in distiller.edges():
            # a detector that samples no region in a batch scores nothing, without gradient
            levels = [x for x in outputs[edge.learner.role].taps[edge.learner].levels if x.numel()]
            if distiller.moves(edge) and levels and not any(level.requires_grad for level in levels):
                raise ConfigError(
                    f'model.distillers: {name} would teach {edge.learner.role!r} at tap {str(edge.learner)!r}, but '
                    f'nothing learns up to there: tap a later module, or see frozen_stages and with_cp of its '
                    f'backbone and '
                    f'model.roles.{edge.learner.role}.train'
                )


def _build(key: str, cfg: Mapping[str, Any]) -> Distiller:
    kind, known = cfg.get('type'), [found.__name__ for found in _subclasses(Distiller)]
    if kind is None:
        raise ConfigError(f'{key}: `type` is missing; {near_matches("", known)}')
    if not isinstance(kind, str | type) or not kind:
        raise ConfigError(f'{key}.type={kind!r}: must be the name of a distiller; {near_matches(kind, known)}')
    made = MODELS.get(kind) if isinstance(kind, str) else kind
    if made is not None:
        require_numbers(key, made, cfg)
        options = signature(made).parameters
        any_other = any(option.kind is option.VAR_KEYWORD for option in options.values())
        for unknown in () if any_other else (k for k in cfg if k not in ('type', 'name', '_scope_', *options)):
            raise ConfigError(f'{key}.{unknown}: unknown; {near_matches(unknown, [*options, "name"])}')
    try:
        distiller = MODELS.build({'_scope_': 'mmadm', **{k: value for k, value in cfg.items() if k != 'name'}})
    except (ConfigError, TypeError, KeyError) as error:
        if f'{kind} is not in the' in str(error):
            hint = near_matches(type_name(kind), known)
            raise ConfigError(f'{key}.type={kind!r}: not registered; {hint}') from error
        raise ConfigError(f'{key}: {error}') from error
    if not isinstance(distiller, Distiller):
        raise ConfigError(f'{key}.type={kind!r}: no distiller; {near_matches("", known)}')
    return distiller


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    """Every distiller that there is, a user's own too."""
    for kind in base.__subclasses__():
        yield kind
        yield from _subclasses(kind)
