"""Build the distillers from their configs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmadm.algorithms.pause import check_one_decides
from mmadm.distillers import Distiller
from mmadm.registry import MODELS
from mmadm.structures import RoleOutput
from mmadm.utils.errors import ConfigError, near_matches, require_dict

EXAMPLE = "dict(type='mmadm.Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence'))"


def build_distillers(cfgs: Sequence[Mapping[str, Any]], roles: Iterable[str]) -> dict[str, Distiller]:
    """Build ``model.distillers``.

    Args:
        cfgs: Config of each distiller.
        roles: Names of all roles.

    Returns:
        The distillers by the name that their weights have in a checkpoint: the type in lower case, numbered from the
        second one of a type on.

    Raises:
        ConfigError: If one of them cannot be built or names a role that does not exist.
    """
    if isinstance(cfgs, str | Mapping):
        raise ConfigError(f'model.distillers={cfgs!r}: must be a list, such as [{EXAMPLE}]')
    built: dict[str, Distiller] = {}
    for index, cfg in enumerate(cfgs):
        key = f'model.distillers[{index}]'
        require_dict(key, cfg, EXAMPLE)
        distiller = _build(key, cfg)
        for role in distiller.taps():
            if role not in roles:
                raise ConfigError(f'{key}: no role {role!r}; {near_matches(role, roles)}')
        kind = type(distiller).__name__.lower()
        built[kind if kind not in built else f'{kind}_{index}'] = distiller
    check_one_decides(built.values())
    return built


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
            levels = [level for level in outputs[edge.learner].taps[edge.learner_tap] if level.numel()]
            if distiller.moves(edge) and levels and not any(level.requires_grad for level in levels):
                raise ConfigError(
                    f'model.distillers: {name} would teach {edge.learner!r} at tap {edge.learner_tap!r}, but nothing '
                    f'learns up to there: tap a later module, or see frozen_stages of its backbone and '
                    f'model.roles.{edge.learner}.train'
                )


def _build(key: str, cfg: Mapping[str, Any]) -> Distiller:
    kind, known = cfg.get('type'), [found.__name__ for found in _kinds(Distiller)]
    if kind is None:
        raise ConfigError(f'{key}: `type` is missing; {near_matches("", known)}')
    try:
        distiller = MODELS.build({'_scope_': 'mmadm', **cfg})
    except (ConfigError, TypeError, KeyError) as error:
        if f'{kind} is not in the' in str(error):
            wanted = str(kind).rpartition('.')[2]
            raise ConfigError(f'{key}.type={kind!r}: not registered; {near_matches(wanted, known)}') from error
        raise ConfigError(f'{key}: {error}') from error
    if not isinstance(distiller, Distiller):
        raise ConfigError(f'{key}.type={kind!r}: no distiller; {near_matches("", known)}')
    return distiller


def _kinds(base: type[Distiller]) -> Iterator[type[Distiller]]:
    """Every distiller that there is, a user's own too."""
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)
