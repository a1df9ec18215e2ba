"""Learning curves, loss curves and bars by class as matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmadm.bench.styles import PALETTE, STYLE, MethodStyle

Curve = Sequence[tuple[int, float]]
#: Beside a line that is so many times higher, one cannot be seen
FAR_APART = 50


def learning_figure(
    title: str,
    score: str,
    curves: Mapping[str, Sequence[Curve]],
    styles: Mapping[str, MethodStyle],
    unit: str = 'iteration',
) -> Figure:
    """Validation score over the training, one line per method, or per role of one run.

    Args:
        title: Title of the panel.
        score: Name of the score.
        curves: ``{method: [curve of each seed]}``, a curve being (iteration or epoch, percent) pairs.
        styles: Style of each method.
        unit: In which curves count.

    Returns:
        The figure; a line is the mean over seeds, its band one sample standard deviation.
    """
    with mpl.rc_context(STYLE):
        figure, panel = one_panel(title, unit)
        for method, seeds in curves.items():
            draw_band(panel, seeds, styles[method], method)
        panel.set_ylabel(f'val {score} (%)')
        panel.set_xlim(left=0)
        legend_below(figure, len(curves))
    return figure


def loss_figure(title: str, losses: Mapping[str, Curve]) -> Figure:
    """Logged values of one training over the iterations.

    Args:
        title: Title of the panel.
        losses: ``{key: (iteration, value) pairs}`` with keys such as ``student.loss_consensus``. A kind of loss has the
            same colour on every panel, unless two lines of it could not be told apart; a teacher's line is dashed.
    """
    with mpl.rc_context(STYLE):
        figure, panel = one_panel(title)
        taken: set[tuple[str, str]] = set()
        for key, curve in losses.items():
            steps, values = np.asarray(curve, dtype=float).T
            style = '--' if key.startswith('teacher.') else '-'
            wanted = kind_colour(key)
            colour = next((free for free in (wanted, *PALETTE) if (free, style) not in taken), wanted)
            taken.add((colour, style))
            panel.plot(steps, values, style, color=colour, linewidth=1.6, label=key)
        _fit_values(panel)
        legend_below(figure, len(losses))
    return figure


def _fit_values(panel: Axes) -> None:
    """Begin at 0, but let lines that are far apart be seen, too."""
    means = [float(np.mean(line.get_ydata())) for line in panel.lines]
    lowest = panel.dataLim.y0
    if lowest > 0 and max(means) > FAR_APART * min(means):
        panel.set_yscale('log')
    elif lowest >= 0:
        panel.set_ylim(bottom=0)


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
        panel.set_axisbelow(True)
        panel.grid(visible=False, axis='y')
    return figure


def method_figure(scores: Mapping[str, Mapping[str, float]], styles: Mapping[str, MethodStyle], label: str) -> Figure:
    """Horizontal bars by class, one per method side by side; the first class is on top.

    Args:
        scores: ``{method: {class: value}}``.
        styles: Style of each method.
        label: Title of the value axis.
    """
    names = list(dict.fromkeys(name for by_class in scores.values() for name in by_class))
    height = 0.8 / len(scores)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 1.1 + min(0.16 * (len(scores) + 1), 1.3) * len(names)), layout='constrained')
        panel = figure.subplots()
        for number, (method, by_class) in enumerate(scores.items()):
            places = [row + (number + 0.5) * height - 0.4 for row, name in enumerate(names) if name in by_class]
            values = [by_class[name] for name in names if name in by_class]
            panel.barh(
                places, values, height, color=styles[method].colour, hatch=styles[method].hatch, edgecolor='white',
                linewidth=0, label=method,
            )  # fmt: skip
        panel.set(xlabel=label, yticks=range(len(names)), yticklabels=names)
        panel.margins(y=0.01)
        panel.invert_yaxis()
        panel.set_axisbelow(True)
        panel.grid(visible=False, axis='y')
        panel.legend(loc='lower center', bbox_to_anchor=(0.5, 1), ncols=4)
    return figure


def one_panel(title: str, unit: str = 'iteration') -> tuple[Figure, Axes]:
    """An empty figure over the iterations or epochs, small enough to be read on a telephone."""
    figure = Figure(figsize=(5.2, 3.4), layout='constrained')
    panel = figure.subplots()
    panel.set(title=title, xlabel=unit)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, panel


def legend_below(figure: Figure, entries: int) -> None:
    """Put the legend below the panels, where it hides no line, and make the figure as much higher."""
    figure.set_figheight(figure.get_figheight() + 0.1 * entries)
    figure.legend(loc='outside lower center', ncols=2, fontsize=8)


def kind_colour(key: str) -> str:
    """The colour of a kind of loss: task losses are grey, those of a detector light, medium and dark."""
    kinds = {'loss_mutual': 1, 'loss_consensus': 2, 'similarity': 3, 'loss_transfer': 4, 'loss_divergence': 5}
    shades = {
        'loss_bbox': '#b4bbc5',
        'loss_centerness': '#374151',
        'foreground': PALETTE[6],
        'foreground_area': '#b9def5',
    }
    kind = key.rpartition('.')[2]
    return shades.get(kind, PALETTE[kinds.get(kind, 0)])


def draw_band(panel: Axes, seeds: Sequence[Curve], style: MethodStyle, label: str) -> None:
    """Draw the mean over seeds at the iterations that all of them reached, with a band of one standard deviation."""
    shared = set.intersection(*({step for step, _ in curve} for curve in seeds))
    values = np.array([[value for step, value in sorted(curve) if step in shared] for curve in seeds])
    steps, mean = sorted(shared), values.mean(axis=0)
    panel.plot(
        steps, mean, style.line, color=style.colour, linewidth=1.8, marker=style.marker, markersize=4.5, label=label
    )
    if len(seeds) > 1:
        deviation = values.std(axis=0, ddof=1)
        panel.fill_between(steps, mean - deviation, mean + deviation, color=style.colour, alpha=0.12, linewidth=0)
