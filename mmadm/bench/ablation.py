"""How much the settings of ADM matter: heat maps of a suite whose methods are named by their settings."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from mmadm.bench.heat_panel import Values, heat_panel, largest
from mmadm.bench.pictures import plot
from mmadm.bench.styles import STYLE
from mmadm.bench.tables import Row, differences

NAME = re.compile(r'adm_a(?P<alpha>[\d.]+)_b(?P<beta>[\d.]+)_t(?P<tau>[\d.]+)_(?P<region>.+)')
FEWEST = 4


@dataclass(frozen=True)
class Setting:
    """One setting of ADM and the points that it is above mutual learning, by seed."""

    method: str
    alpha: float
    beta: float
    tau: float
    region: str
    gains: list[float]

    @property
    def gain(self) -> float:
        """Mean over seeds."""
        return statistics.mean(self.gains)


def settings(rows: Sequence[Row]) -> list[Setting]:
    """What method names tell, for methods that share a seed with the row ``dml``; nothing without that row.

    Args:
        rows: Rows with the scores on val: an ablation chooses.
    """
    found = []
    for base in (row for row in rows if row.method == 'dml'):
        for row in rows:
            if (name := NAME.fullmatch(row.method)) and (gains := differences(row, base)):
                numbers = (float(name[key]) for key in ('alpha', 'beta', 'tau'))
                found.append(Setting(row.method, *numbers, name['region'], gains))
    return found


def ablation_section(rows: Sequence[Row], metric: str) -> dict[str, Any] | None:
    """Heat maps and how far the settings are apart; None for fewer than ``FEWEST`` settings."""
    found = settings(rows)
    if len(found) < FEWEST:
        return None
    return {'plot': plot(ablation_figure(found, metric), 'ADM above DML by alpha and beta'), 'facts': facts(found)}


def facts(found: Sequence[Setting]) -> list[tuple[str, str]]:
    """What a reader needs to judge whether the settings matter, as names and values."""
    ordered = sorted(found, key=lambda setting: setting.gain)
    gains = [setting.gain for setting in ordered]
    noise = [statistics.stdev(setting.gains) for setting in found if len(setting.gains) > 1]
    seeds = sorted({len(setting.gains) for setting in found})
    return [
        ('settings', str(len(found))),
        ('seeds', ' or '.join(map(str, seeds))),
        ('min', f'{gains[0]:+.2f} ({ordered[0].method})'),
        ('max', f'{gains[-1]:+.2f} ({ordered[-1].method})'),
        ('mean', f'{statistics.mean(gains):+.2f}'),
        ('std over settings', f'{statistics.stdev(gains):.2f}'),
        ('std over the seeds of a setting, mean', f'{statistics.mean(noise):.2f}' if noise else '-'),
    ]


def grids(found: Sequence[Setting]) -> dict[tuple[float, str], Values]:
    """Mean gain by alpha (row) and beta (column), both ascending, for each tau and region; NaN is a gap."""
    alphas, betas = (sorted({getattr(setting, axis) for setting in found}) for axis in ('alpha', 'beta'))
    tables: dict[tuple[float, str], Values] = {}
    for setting in sorted(found, key=lambda setting: (setting.region, setting.tau)):
        table = tables.setdefault((setting.tau, setting.region), np.full((len(alphas), len(betas)), np.nan))
        table[alphas.index(setting.alpha), betas.index(setting.beta)] = setting.gain
    return tables


def ablation_figure(found: Sequence[Setting], metric: str) -> Figure:
    """A panel for each tau and region, two beside each other, all on one scale of colours."""
    tables = grids(found)
    alphas, betas = ([f'{v:g}' for v in sorted({getattr(s, axis) for s in found})] for axis in ('alpha', 'beta'))
    columns = min(2, len(tables))
    lines = -(-len(tables) // columns)
    limit, size = largest(*tables.values()), (1.1 + 0.62 * len(betas), 0.9 + 0.42 * len(alphas))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(4.6, columns * size[0]), 0.8 + lines * size[1]), layout='constrained')
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for panel, ((tau, region), values) in zip(panels, tables.items(), strict=False):
            # adding 0 turns -0.0 into 0.0
            image = heat_panel(panel, values, limit, alphas, betas, lambda v: f'{round(v, 1) + 0:+.1f}')
            panel.set(title=f'{region}, tau {tau:g}', xlabel='beta', ylabel='alpha')
        for panel in panels[len(tables) :]:
            panel.set_visible(False)
        bar = dict(location='bottom', shrink=0.8, aspect=30, label=f'val {metric}, points above DML')
        figure.colorbar(image, ax=panels.tolist(), **bar)
    return figure
