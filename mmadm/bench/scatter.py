"""What a method gains, drawn over what its training costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from mmadm.bench.pictures import plot
from mmadm.bench.styles import FAINT, INK, STYLE, MethodStyle
from mmadm.bench.tables import Row, baseline_of, differences

MEASURED = 'both steps measured side by side'
LOGGED = 'median seconds per iteration in the logs, which vary with what else the machine did'
# letters of a name of which the legend holds three side by side
SHORT_NAME = 18


@dataclass(frozen=True)
class Point:
    """One method.

    Attributes:
        method: Its name.
        cost: Training step as a multiple of the plain student's.
        measured: Whether the two steps were measured side by side; if not, the cost is from the logs.
        gains: Points above the plain student by seed.
    """

    method: str
    cost: float
    measured: bool
    gains: list[float]


def gain_points(rows: Sequence[Row]) -> list[Point]:
    """Cost and gain of every method that shares a seed with its plain student."""
    by_name = {row.method: row for row in rows}
    points = []
    for row in rows:
        name = baseline_of(row.method, by_name, 'student')
        if name is None or not (gains := differences(row, by_name[name])):
            continue
        logged = statistics.median(row.times) / statistics.median(by_name[name].times)
        points.append(Point(row.method, row.cost or logged, row.cost is not None, gains))
    return points


def gain_section(rows: Sequence[Row], metric: str, styles: Mapping[str, MethodStyle]) -> dict[str, Any] | None:
    """The plot and a sentence on how cost was taken; None if no method can be compared with a plain student."""
    points = gain_points(rows)
    if not points:
        return None
    measured = [point.method for point in points if point.measured]
    if len(measured) == len(points):
        source = f'Cost: {MEASURED}.'
    elif not measured:
        source = f'Cost: {LOGGED}.'
    else:
        source = f'Cost of {", ".join(measured)} (filled): {MEASURED}; of the others (hollow): {LOGGED}.'
    figure = gain_figure(points, metric, styles)
    bars = any(len(point.gains) > 1 for point in points)
    return {'plot': plot(figure, 'cost against gain by method'), 'source': source, 'bars': bars}


def gain_figure(points: Sequence[Point], metric: str, styles: Mapping[str, MethodStyle]) -> Figure:
    """One numbered point a method, with a bar of one sample standard deviation over seeds on each side.

    Args:
        points: See :func:`gain_points`.
        metric: Name of the score.
        styles: Style of each method. The mark of a cost from the logs is hollow.
    """
    measured = {point.measured for point in points}
    how = {True: 'measured side by side', False: 's / iteration of the logs'}
    source = how[measured.pop()] if len(measured) == 1 else 'filled: measured side by side, hollow: from the logs'
    with mpl.rc_context(STYLE):
        columns = 3 if max(len(point.method) for point in points) <= SHORT_NAME else 2
        lines = -(-len(points) // columns)
        figure = Figure(figsize=(5.6, 4.3 + 0.17 * lines), layout='constrained')
        panel = figure.subplots()
        panel.axhline(0, color=INK, linewidth=0.8)
        panel.plot([1], [0], '+', color=INK, markersize=11, label='plain student')
        for number, point in enumerate(points, 1):
            style = styles[point.method]
            error = statistics.stdev(point.gains) if len(point.gains) > 1 else None
            panel.errorbar(
                point.cost, statistics.mean(point.gains), error, fmt=style.marker, color=style.colour,
                markerfacecolor=style.colour if point.measured else 'white', markersize=7, elinewidth=1,
                label=f'{number}  {point.method}', zorder=3,
            )  # fmt: skip
        panel.set(xlabel=f'training step / plain student\n({source})', ylabel=f'{metric}, points above plain student')
        panel.set_xscale('log')  # offline methods cost little more than the plain student, online ones several times
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
        panel.xaxis.set_major_formatter('{x:g}')
        panel.minorticks_off()
        panel.margins(0.08)
        figure.legend(loc='outside lower center', ncols=columns, fontsize=8)
        figure.draw_without_rendering()  # the layout moves the panel; numbers are placed in pixels
        number_points(panel, points, styles)
    return figure


def number_points(panel: Axes, points: Sequence[Point], styles: Mapping[str, MethodStyle]) -> None:
    """Write each point's number beside it, as near as points, bars and other numbers leave room."""
    scale = panel.figure.dpi / 72
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ring = scale * np.concatenate([radius * circle for radius in (11, 17, 23)])
    centres = [(point.cost, statistics.mean(point.gains)) for point in points]
    places = panel.transData.transform(centres)
    taken = [*places, *panel.transData.transform([(1, 0)])]
    for point, (cost, gain) in zip(points, centres, strict=True):
        if len(point.gains) > 1:  # the bar
            ends = gain + np.linspace(-1, 1, 13) * statistics.stdev(point.gains)
            taken += [*panel.transData.transform([(cost, end) for end in ends])]
    for number, (point, centre, place) in enumerate(zip(points, centres, places, strict=True), 1):
        distances = np.linalg.norm((place + ring)[:, None] - np.array(taken), axis=2).min(axis=1)
        best = int(np.minimum(distances, 10 * scale).argmax())  # the first, so the nearest, with room enough
        taken.append(place + ring[best])
        panel.annotate(
            str(number), centre, ring[best] / scale, textcoords='offset points', ha='center', va='center',
            fontsize=8, weight='bold', color=styles[point.method].colour, zorder=4,
            bbox=dict(boxstyle='round,pad=0.1', facecolor='white', edgecolor=FAINT, linewidth=0.4, alpha=0.8),
        )  # fmt: skip
