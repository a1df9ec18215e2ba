"""Which of the values that a training logged belong into one figure: by role, by distiller, or watched only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmadm.bench.curves import Curve
from mmadm.bench.records import Record, training_entries
from mmadm.structures import is_loss
from mmadm.utils.optim_config import type_name

WATCHED = 'what is watched, not trained'
TOTAL = 'total of every role'
#: Losses of distillers that are not called by the distiller's type
_STEMS = {
    'ADM': ('consensus', 'divergence'),
    'SOKD': ('from',),
    'FFSD': ('peers', 'diversity', 'students', 'fused', 'fusion'),
}
_MONITORS = ('similarity', 'foreground', 'avatar_weight', 'expert')


def loss_groups(
    scalars: Iterable[Record], roles: Iterable[str], distillers: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Curve]]:
    """Curves of one training by the title of their figure.

    Args:
        scalars: What was logged.
        roles: Names of the roles.
        distillers: Their configs.

    Returns:
        ``{title: {key: (iteration, value) pairs}}``: task losses of each role, losses of each distiller, what is
        watched, and the totals where roles have several losses.
    """
    names, roles = dict(_named(distillers)), list(roles)
    groups: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for entry in training_entries(scalars):
        for key, value in entry.items():
            title = _title(key, roles, names)
            if title is not None:
                groups.setdefault(title, {}).setdefault(key, []).append((entry['step'], value))
    for last in (WATCHED, TOTAL):
        if last in groups:
            groups[last] = groups.pop(last)
    return {title: dict(curves) for title, curves in groups.items()}


def _named(distillers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Distillers by the name that :func:`~mmadm.algorithms.build_distillers.build_distillers` gives them."""
    numbers: Counter[str] = Counter()
    for cfg in distillers:
        kind = type_name(cfg['type']).lower()
        number = numbers[kind]
        numbers[kind] += 'name' not in cfg
        yield cfg.get('name') or (f'{kind}_{number}' if number else kind), cfg


def _title(key: str, roles: Sequence[str], distillers: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The figure of a logged value; None if it is in none."""
    owner, _, rest = key.partition('.')
    if owner in roles and rest == 'loss':
        return TOTAL
    last = key.rpartition('.')[2]
    if last.startswith(_MONITORS):
        return WATCHED
    if not is_loss(key) or key in ('loss', 'idle_loss'):
        return None
    if not distillers or (owner in roles and '.' in rest):
        return f'task losses of {owner}' if owner in roles else 'task losses'
    stem = rest.removeprefix('loss_')
    fitting = [name for name, cfg in distillers.items() if _gives(cfg, stem, owner in roles)]
    # the second of two with one key has its name behind it
    by_name = [name for name in fitting if stem.endswith(f'_{name}')]
    mine = [name for name in fitting if distillers[name].get('learner', owner) == owner]
    found = next(iter([*by_name, *mine, *fitting]), None)
    return f'losses of distiller {found}' if found else f'task losses of {owner}'


def _gives(cfg: Mapping[str, Any], stem: str, of_role: bool) -> bool:
    """Whether a distiller gives a loss of this name; what belongs to no role is a part of FFSD."""
    kind = type_name(cfg['type'])
    if not of_role or kind in _STEMS:
        return kind in _STEMS and (not of_role or stem.startswith(_STEMS[kind]))
    return kind.lower().startswith(stem.partition('_')[0])
