"""Tables of what a distillation is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from rich.table import Table
from torch import Tensor, nn

from mmadm.cli.networks import kind_of
from mmadm.distillers.base import Facts
from mmadm.distillers.pairs import Edge
from mmadm.structures import Tap


def role_table(model: nn.Module, cfg: Config) -> Table:
    """Who takes part: network, whether it learns, size, first weights."""
    table = _table('role', 'network', 'learns', 'parameters', 'starts from')
    for role, network in model.roles.items():
        told = cfg.model.roles[role]
        learns = ', '.join(told.get('train') or ()) or 'yes'
        parameters = sum(parameter.numel() for parameter in network.parameters())
        table.add_row(
            f'{role} (deployed)' if role == model.deploy else role,
            f'{type(network).__name__}, {type(getattr(network, "backbone", network)).__name__}',
            'no' if role in model.frozen else learns,
            f'{parameters / 1e6:.1f} M',
            str(told.get('checkpoint') or told.get('like') or 'its initialisation'),
        )
    return table


def image_lines(model: nn.Module) -> list[str]:
    """What the roles' preprocessors make of images, by role where they differ."""
    by_text: dict[str, list[str]] = {}
    for role, network in model.roles.items():
        by_text.setdefault(_images(network.data_preprocessor), []).append(role)
    return [
        f'images of {"all roles" if len(by_text) == 1 else ", ".join(who)}: {what}' for what, who in by_text.items()
    ]


def distiller_table(model: nn.Module, cfg: Config) -> Table:
    """Who learns from whom: taps, what they are and their shapes on a blank image, and numbers."""
    table, facts = _table('distiller', 'learner', 'from', 'tap', 'levels'), model.facts()
    for distiller, told in zip(model.distillers.values(), cfg.model.get('distillers', ()), strict=True):
        rows = [_row(edge, facts) for edge in distiller.edges()] or [('', '', _taps(distiller), '')]
        for index, row in enumerate(rows):
            table.add_row('' if index else f'{kind_of(told)}\n{numbers(told)}'.strip(), *row)
    return table


def connector_lines(model: nn.Module) -> list[str]:
    """What is trained beside the networks and dropped at the end."""
    parameters = sum(p.numel() for p in model.connectors.parameters())
    number = sum(len(part) for part in model.connectors.values())
    return [f'connectors: {number} with {parameters / 1e6:.2f} M parameters, not exported'] if number else []


def levels_of_last(model: nn.Module) -> int:
    """Number of levels of the last distiller's tap, which is the method's own."""
    last, facts = list(model.distillers.values())[-1], model.facts()
    return max((len(_levels(edge.learner, facts)) for edge in last.edges()), default=1)


def numbers(cfg: Mapping[str, Any]) -> str:
    """Loss, weights and other numbers of a distiller, as text."""
    loss = cfg.get('loss') or {}
    found = [
        f'{key} {value:g}'
        for part in (loss, cfg)
        for key, value in part.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return ', '.join([*([kind_of(loss)] if loss else []), *found])


def _row(edge: Edge, facts: Facts) -> tuple[str, str, str, str]:
    """Learner, source, their tap, and its kind and shapes."""
    shapes = [_shapes(_levels(tap, facts)) for tap in (edge.learner, edge.source)]
    kind = facts[edge.learner.role].output.taps[edge.learner].kind.value
    told = f'{kind}\n{_pair(*shapes)}'.strip()
    return edge.learner.role, edge.source.role, _pair(str(edge.learner), str(edge.source)), told


def _levels(tap: Tap, facts: Facts) -> Sequence[Tensor]:
    found = facts[tap.role].output
    return found.taps[tap].levels if tap in found.taps else ()


def _taps(distiller: nn.Module) -> str:
    return ', '.join(dict.fromkeys(str(tap) for taps in distiller.taps().values() for tap in sorted(taps, key=str)))


def _images(preprocessor: Any) -> str:
    """Normalisation and padding of a preprocessor."""
    parts = []
    if getattr(preprocessor, 'mean', None) is not None:
        for name in ('mean', 'std'):
            values = getattr(preprocessor, name).flatten().tolist()
            parts.append(f'{name} {", ".join(f"{value:.4g}" for value in values)}')
    size, divisor = getattr(preprocessor, 'size', None), getattr(preprocessor, 'pad_size_divisor', 1)
    if size:
        parts.append(f'padded to {tuple(size)}')
    if divisor > 1:
        parts.append(f'padded to multiples of {divisor}')
    return '; '.join(parts) or 'as they are'


def _shapes(levels: Sequence[Tensor]) -> str:
    """Channels, height and width of each level; of many the first and the last."""
    shapes = ['x'.join(map(str, level.shape[1:])) for level in levels]
    return ' '.join(shapes) if len(shapes) < 3 else f'{shapes[0]} to {shapes[-1]} ({len(shapes)})'


def _pair(mine: str, theirs: str) -> str:
    return mine if mine == theirs else f'{mine}\n{theirs}'


def _table(*columns: str) -> Table:
    table = Table()
    for name in columns:
        table.add_column(name, overflow='fold')
    return table
