"""Learning curves and loss curves of several methods as matplotlib figures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Curve = Sequence[tuple[int, float]]

INK, FAINT = '#1f2933', '#d9dee4'
# the colour-blind safe set of Okabe and Ito, without its yellow, which is lost on white
PALETTE = ('#6b7280', '#e69f00', '#0072b2', '#009e73', '#cc79a7', '#d55e00', '#56b4e9')
STYLE = {
    'font.size': 10,
    'text.color': INK,
    'axes.edgecolor': FAINT,
    'axes.labelcolor': INK,
    'axes.titlesize': 11,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.color': FAINT,
    'grid.linewidth': 0.6,
    'xtick.color': INK,
    'ytick.color': INK,
    'legend.frameon': False,
}


def learning_figure(curves: Mapping[str, Mapping[str, Sequence[Curve]]]) -> Figure:
    """Validation mIoU over the iterations, one panel per role and one line per method.

    Args:
        curves: ``{role: {method: [curve of each seed]}}``, a curve being (iteration, mIoU) pairs.

    Returns:
        The figure; a line is the mean over seeds, its band one sample standard deviation.
    """
    methods = list(dict.fromkeys(method for by_method in curves.values() for method in by_method))
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(curves))
        for panel, (role, by_method) in zip(axes, curves.items(), strict=True):
            for method, seeds in by_method.items():
                draw_band(panel, seeds, PALETTE[methods.index(method) % len(PALETTE)], method)
            panel.set(title=role, xlabel='iteration', ylabel='val mIoU (%)')
            panel.legend()
    return figure


def loss_figure(losses: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Logged values over the iterations, one panel per title and one line per name.

    Args:
        losses: ``{panel title: {line name: (iteration, value) pairs}}``.
    """
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(losses))
        for panel, (title, by_name) in zip(axes, losses.items(), strict=True):
            for colour, (name, curve) in zip(cycle(len(by_name)), by_name.items(), strict=True):
                steps, values = np.asarray(curve, dtype=float).T
                panel.plot(steps, values, color=colour, linewidth=1.6, label=name)
            panel.set(title=title, xlabel='iteration')
            panel.set_ylim(bottom=0)
            panel.legend(fontsize=8)
    return figure


def class_figure(names: Sequence[str], values: Sequence[float], label: str) -> Figure:
    """Horizontal bars by class, largest first; classes without a value (NaN) are left out.

    Args:
        names: Class names.
        values: One value per class.
        label: Title of the value axis.
    """
    pairs = sorted((value, name) for name, value in zip(names, values, strict=True) if not np.isnan(value))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.6 + 0.27 * len(pairs)), layout='constrained')
        panel = figure.subplots()
        panel.barh([name for _, name in pairs], [value for value, _ in pairs], color=PALETTE[2], height=0.7)
        panel.set(xlabel=label)
        panel.grid(visible=False, axis='y')
    return figure


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels, two in a row."""
    columns = min(2, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.6 * columns, 3.1 * rows), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = list(grid.flat)
    for empty in axes[count:]:
        empty.remove()
    return figure, axes[:count]


def draw_band(panel: Axes, seeds: Sequence[Curve], colour: str, label: str) -> None:
    """Draw the mean over seeds at the iterations that all of them reached, with a band of one standard deviation."""
    shared = set.intersection(*({step for step, _ in curve} for curve in seeds))
    values = np.array([[value for step, value in sorted(curve) if step in shared] for curve in seeds])
    steps, mean = sorted(shared), values.mean(axis=0)
    panel.plot(steps, mean, color=colour, linewidth=2, marker='o', markersize=3.5, label=label)
    if len(seeds) > 1:
        deviation = values.std(axis=0, ddof=1)
        panel.fill_between(steps, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)


def cycle(count: int) -> list[str]:
    """The first ``count`` colours, starting again after the last."""
    return [PALETTE[1:][index % (len(PALETTE) - 1)] for index in range(count)]


def png_uri(figure: Figure) -> str:
    """A figure as a ``data:`` address, so that a page needs no second file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=160)
    return data_uri(buffer.getvalue())


def data_uri(png: bytes) -> str:
    """PNG bytes as a ``data:`` address."""
    return f'data:image/png;base64,{base64.b64encode(png).decode()}'
