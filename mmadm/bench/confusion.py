"""Which classes a method confuses less, or more, than the plain student."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mmadm.bench.boxes import SAME, Boxes, overlaps, predicted_boxes, true_boxes
from mmadm.bench.finished_runs import FinishedRun, predict, truth
from mmadm.bench.heat_panel import Values, heat_panel, largest
from mmadm.bench.pictures import plot
from mmadm.bench.records import Record
from mmadm.bench.styles import STYLE
from mmadm.bench.tables import Row, baseline_of
from mmadm.visualization.overlay import spread_indices

CONFUSION_IMAGES = 40
#: As many a figure holds
MOST_CLASSES = 25
NAMED = ('dml', 'adm')


def count_pixels(labels: Tensor, prediction: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Pixels by true class (row) and predicted class (column), shape (K, K); ignored ones do not count."""
    valid = labels != ignore_index
    pairs = labels[valid].long() * num_classes + prediction[valid].long()
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def count_boxes(truth: Boxes, predicted: Boxes, num_classes: int) -> Tensor:
    """Boxes by true class (row) and predicted class (column), shape (K + 1, K + 1).

    A prediction, the surest first, takes the true box that it overlaps most, of whatever class and by at least
    ``SAME``, and that is still free. The last column holds the true boxes that are left, the last row the predictions
    that found none.
    """
    counts = torch.zeros(num_classes + 1, num_classes + 1, dtype=torch.long)
    fits = overlaps(predicted.corners, truth.corners)
    free = set(range(len(truth.labels)))
    for row, label in zip(fits, predicted.labels.tolist(), strict=True):
        best = max(free, key=lambda index: row[index].item(), default=None)
        if best is not None and row[best] >= SAME:
            free.remove(best)
            counts[truth.labels[best], label] += 1
        else:
            counts[num_classes, label] += 1
    for index in free:
        counts[truth.labels[index], num_classes] += 1
    return counts


def percentages(counts: Tensor, task: str) -> Values:
    """Percent of each true class (row); of detections, the last row has false boxes per 100 true ones.

    NaN is the row of a class that does not occur.
    """
    totals = counts.sum(dim=1).double()
    if task == 'detection':
        totals[-1] = counts[:-1].sum()
    return (100 * counts / totals[:, None]).numpy()


def confusion(run: FinishedRun, task: str) -> Values:
    """What the deployed role of a run makes of each class, on images spread over the scored split."""
    return percentages(confusion_counts(run, task), task)


def confusion_counts(run: FinishedRun, task: str) -> Tensor:
    """Pixels or boxes behind :func:`confusion`, see :func:`count_pixels` and :func:`count_boxes`."""
    dataset = run.dataset
    number = len(dataset.metainfo['classes'])
    total = torch.zeros((), dtype=torch.long)
    for index in spread_indices(len(dataset), CONFUSION_IMAGES):
        item = dataset[index]
        if task == 'segmentation':
            total = total + count_pixels(truth(item), predict(run, item), number)
        else:
            total = total + count_boxes(true_boxes(dataset, index), predicted_boxes(run, item), number)
    return total


def chosen(rows: Sequence[Row]) -> dict[str, str]:
    """``{method: its plain student}`` of mutual learning, of ADM and of what is best on val.

    Args:
        rows: Rows with the scores on val.
    """
    by_name = {row.method: row for row in rows}
    plain = {row.method: name for row in rows if (name := baseline_of(row.method, by_name, 'student'))}
    named = [m for m, name in plain.items() if m.removesuffix(name.removeprefix('student')) in NAMED]
    best = sorted(plain, key=lambda method: statistics.mean(by_name[method].main))[-1:]
    return {method: plain[method] for method in dict.fromkeys([*named, *best])}


def confusion_section(
    records: Sequence[Record], rows: Sequence[Row], task: str, opened: Callable[[Record], FinishedRun]
) -> dict[str, Any] | None:
    """Changes from the plain student to each chosen method, for the first seed that both have.

    Args:
        records: Result records.
        rows: Rows with the scores on val.
        task: ``segmentation`` or ``detection``.
        opened: Opens the run of a record.

    Returns:
        The plots, and how many images they are about; None if there is nothing to compare.
    """
    by_run = {(record['method'], record['seed']): record for record in records}
    seeds = {row.method: row.seeds for row in rows}
    matrices: dict[tuple[str, int], Values] = {}
    changes: dict[str, Values] = {}
    for method, plain in chosen(rows).items():
        shared = [seed for seed in seeds[plain] if seed in seeds[method]]
        if not shared:
            continue
        pair = [(plain, shared[0]), (method, shared[0])]
        for key in pair:
            if key not in matrices:
                matrices[key] = confusion(opened(by_run[key]), task)
        changes[f'{method} - {plain}, seed {shared[0]}'] = matrices[pair[1]] - matrices[pair[0]]
    if not changes:
        return None
    dataset = opened(records[0]).dataset
    figures = confusion_figures(changes, dataset.metainfo['classes'], task)
    return {
        'plots': [plot(figure, f'confusion: {title}') for title, figure in figures.items()],
        'images': min(len(dataset), CONFUSION_IMAGES),
        'of': len(dataset),
    }


def run_confusion(runs: Mapping[str, FinishedRun], task: str) -> dict[str, Any]:
    """What each role of one run makes of each class; of many classes, the most frequent.

    Args:
        runs: The run by role, each predicting by this role.
        task: ``segmentation`` or ``detection``.
    """
    dataset = next(iter(runs.values())).dataset
    classes = dataset.metainfo['classes']
    counts = {role: confusion_counts(run, task) for role, run in runs.items()}
    shown = shown_classes(list(counts.values()), len(classes))
    kept = [*shown, *range(len(classes), len(next(iter(counts.values()))))]
    values = {role: percentages(table, task)[kept][:, kept] for role, table in counts.items()}
    figures = confusion_figures(values, [classes[index] for index in shown], task, change=False)
    return {
        'plots': [plot(figure, f'confusion: {role}') for role, figure in figures.items()],
        'images': min(len(dataset), CONFUSION_IMAGES),
        'of': len(dataset),
        'left_out': len(classes) - len(shown),
    }


def shown_classes(counts: Sequence[Tensor], classes: int) -> list[int]:
    """The most frequent classes of the truth, without those that neither it nor a prediction has.

    Args:
        counts: A table of each role, see :func:`count_pixels` and :func:`count_boxes`.
        classes: Their number.
    """
    frequent = counts[0][:classes].sum(dim=1).argsort(descending=True, stable=True)[:MOST_CLASSES].tolist()
    seen = sum(table.sum(dim=0) + table.sum(dim=1) for table in counts)
    return sorted(index for index in frequent if seen[index]) or sorted(frequent)


def confusion_figures(
    changes: Mapping[str, Values], classes: Sequence[str], task: str, change: bool = True
) -> dict[str, Figure]:
    """One heat map for each title, all on one scale of colours.

    Args:
        changes: Changes in points, or percent, by title.
        classes: Names of the rows and columns.
        task: ``segmentation`` or ``detection``.
        change: Whether they are changes.
    """
    columns = [*classes, *(['missed'] if task == 'detection' else [])]
    rows = [*classes, *(['false'] if task == 'detection' else [])]
    limit, side = largest(*changes.values()) if change else 100.0, 0.42 * len(rows)
    figures, form = {}, '+.0f' if change else '.0f'
    for title, values in changes.items():
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(max(4.6, 2.0 + side), max(3.2, 1.6 + side)), layout='constrained')
            panel = figure.subplots()
            image = heat_panel(panel, values, limit, rows, columns, lambda v: f'{v:{form}}' if round(v) else '', change)
            panel.tick_params(axis='x', rotation=90 if len(columns) > 5 else 0)
            panel.set(title=title, xlabel='predicted', ylabel='true')
            figure.colorbar(image, ax=panel, shrink=0.7, label='change in points' if change else 'percent')
        figures[title] = figure
    return figures
