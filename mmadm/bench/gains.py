"""One figure of all methods: what each gains over the plain student or another one, with its interval, by file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import nct, t

from mmadm.bench.records import by_metric, read_json_lines
from mmadm.bench.styles import INK, PALETTE, STYLE
from mmadm.bench.suites import NOTES
from mmadm.bench.tables import baseline_of, differences, interval, paired, summarise
from mmadm.utils.errors import ConfigError

# letters stay letters and names stay the same, so that the same records make the same file
SVG = {'svg.fonttype': 'none', 'svg.hashsalt': 'mmadm'}

Gains = dict[str, list[float]]


def gains_of(path: Path, to: str = 'student') -> tuple[str, Gains]:
    """What a panel shows: its title, and by method the differences to another one, paired by seed.

    Methods with one seed are left out: a difference without an interval says nothing.

    Raises:
        ConfigError: If no method of the file has two seeds together with the other one.
    """
    records = read_json_lines(path)
    for metric, group in by_metric(records).items():
        rows = {row.method: row for row in summarise(group)}
        names = {method: baseline_of(method, rows, to) for method in rows}
        gains = {method: differences(rows[method], rows[name]) for method, name in names.items() if name is not None}
        gains = {method: values for method, values in gains.items() if len(values) > 1}
        if gains:
            return f'{NOTES[group[0]["suite"]][0].removeprefix("mmadm on ")}: {metric}', gains
    raise ConfigError(f'{path}: no method has two seeds together with {to!r}, so there is no interval')


def seeds_to_show(gain: float, spread: float, power: float = 0.8) -> int:
    """Number of seeds at which a paired t-test at 5 % shows a gain with a probability.

    Args:
        gain: True mean difference, in points.
        spread: Standard deviation of the paired differences.
        power: The probability.

    Raises:
        ConfigError: If gain or spread is not positive.
    """
    if gain <= 0 or spread <= 0:
        raise ConfigError(f'a gain of {gain} with a spread of {spread}: both must be positive')
    seeds = 2
    while nct.sf(t.ppf(0.975, seeds - 1), seeds - 1, gain / spread * math.sqrt(seeds)) < power:
        seeds += 1
    return seeds


def draw(panel: Axes, title: str, gains: Gains) -> None:
    """Points and 95 % intervals from the largest gain down: blue gains, orange loses, grey may be either."""
    ordered = sorted(gains.items(), key=lambda item: statistics.mean(item[1]))
    for height, (_, values) in enumerate(ordered):
        low, high = interval(values)
        colour = PALETTE[2] if low > 0 else PALETTE[5] if high < 0 else PALETTE[0]
        panel.plot([low, high], [height, height], color=colour, linewidth=2, solid_capstyle='butt')
        panel.plot(statistics.mean(values), height, 'o', color=colour, markersize=5)
        panel.annotate(f'{paired(values)}, {len(values)} seeds', (1.02, height), xycoords=panel.get_yaxis_transform(),
                       fontsize=8, va='center', annotation_clip=False)  # fmt: skip
    panel.axvline(0, color=INK, linewidth=0.8)
    panel.set_yticks(range(len(ordered)), [method for method, _ in ordered])
    panel.set_title(title)


def gain_figure(panels: Sequence[tuple[str, Gains]], to: str = 'student') -> Figure:
    """One panel for each file, side by side; a row's height is the same in all."""
    with mpl.rc_context(STYLE):
        height = 0.24 * max(len(gains) for _, gains in panels) + 1.2
        figure = Figure(figsize=(6.2 * len(panels), height), layout='constrained')
        for panel, (title, gains) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(panel, title, gains)
            panel.set_xlabel(f'points above {"the plain student" if to == "student" else to}, mean and 95 % interval')
    return figure


def needed_seeds(files: Sequence[Path], gain: float, to: str = 'student') -> list[str]:
    """By file and method a line: how many seeds would show a gain, at the noise that these seeds had."""
    lines = []
    for title, gains in (gains_of(file, to) for file in files):
        for method, values in gains.items():
            spread = statistics.stdev(values)
            if spread > 0:
                lines.append(f'{title}, {method}: {seeds_to_show(gain, spread)} seeds (spread {spread:.2f})')
    return lines


def write_gains(files: Sequence[Path], out: Path, to: str = 'student') -> None:
    """Draw the figure of some files of records; without a date, so that the same records give the same picture."""
    figure = gain_figure([gains_of(file, to) for file in files], to)
    with mpl.rc_context(SVG):
        figure.savefig(out, metadata={'Date': None} if out.suffix == '.svg' else None)
