"""The two observations behind ADM: what is similar, and what is active, lies on objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from mmadm.bench.curves import Curve, draw_band, legend_below
from mmadm.bench.pictures import Picture, plot
from mmadm.bench.records import Record, read_scalars, training_entries
from mmadm.bench.styles import INK, PALETTE, STYLE, MethodStyle

SIMILAR, ACTIVE, CHANCE = 'overlap_similar', 'overlap_active', 'overlap_chance'


def observation_plots(folder: Path, records: Iterable[Record]) -> list[Picture]:
    """One plot for each method whose runs logged the overlaps, see the option ``foreground`` of ``mmadm.ADM``."""
    work_dirs: dict[str, list[Path]] = {}
    for record in records:
        work_dirs.setdefault(record['method'], []).append(folder / record['work_dir'])
    found = {method: overlap_curves(paths) for method, paths in work_dirs.items()}
    return [
        plot(overlap_figure(method, curves), f'overlap with objects, {method}')
        for method, curves in found.items()
        if curves
    ]


def overlap_curves(work_dirs: Sequence[Path]) -> dict[str, list[Curve]]:
    """``{key: [curve of each seed]}`` of the overlaps that trainings logged, as ``student.overlap_similar``."""
    curves: dict[str, list[Curve]] = {}
    for work_dir in work_dirs:
        logged: dict[str, list[tuple[int, float]]] = {}
        for entry in training_entries(read_scalars(work_dir)):
            for key in entry:
                if key.rpartition('.')[2] in (SIMILAR, ACTIVE, CHANCE):
                    logged.setdefault(key, []).append((entry['step'], entry[key]))
        for key, curve in logged.items():
            curves.setdefault(key, []).append(curve)
    return curves


def overlap_figure(title: str, curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """Overlap (IoU) with objects over the iterations: of the most similar positions above, the most active below.

    Args:
        title: Title of the figure.
        curves: See :func:`overlap_curves`. Roles that have a similarity are students, the others teachers, dashed.
    """
    of_role = {key: key.rpartition('.')[0] for key in curves}
    students = [role for key, role in of_role.items() if key.endswith(SIMILAR)]
    roles = list(dict.fromkeys([*students, *of_role.values()]))
    colours = {role: PALETTE[1 + (1 + index) % 6] for index, role in enumerate(roles)}
    panels = {SIMILAR: 'the most similar positions', ACTIVE: 'the strongest activations'}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 4.6), layout='constrained')
        for panel, (kind, name) in zip(figure.subplots(2, sharex=True), panels.items(), strict=True):
            for key, seeds in curves.items():
                role = of_role[key]
                if key.endswith(kind):
                    line = MethodStyle(colours[role], '', '-' if role in students else '--')
                    draw_band(panel, seeds, line, f'{role}: {name}')
                if key.endswith(CHANCE):
                    hidden = '' if kind == SIMILAR else '_'  # in the legend once
                    draw_band(panel, seeds, MethodStyle(INK, '', ':'), f'{hidden}{role}: random positions')
            panel.set(title=f'{title}: {name}', ylabel='IoU with objects')
            panel.set_ylim(bottom=0)
        panel.set_xlabel('iteration')
        legend_below(figure, len(curves))
    return figure
