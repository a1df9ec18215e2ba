"""One HTML page about a folder of benchmark runs; it needs no network and no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmadm.bench.ablation import ablation_section
from mmadm.bench.confusion import confusion_section
from mmadm.bench.curves import (
    Curve,
    class_figure,
    learning_figure,
    loss_figure,
    method_figure,
)
from mmadm.bench.examples import EXAMPLES, class_map, examples
from mmadm.bench.finished_runs import FinishedRun, open_run
from mmadm.bench.metrics import TASKS
from mmadm.bench.observations import observation_plots
from mmadm.bench.page import write_page
from mmadm.bench.pictures import Picture, data_uri, picture, plot, png
from mmadm.bench.records import (
    Record,
    by_metric,
    deployed_role,
    metric_of,
    read_json_lines,
    read_scalars,
    training_entries,
    validation_curves,
)
from mmadm.bench.scatter import gain_section
from mmadm.bench.similarity import adm_maps, mean_by_class
from mmadm.bench.styles import MethodStyle, method_styles
from mmadm.bench.suites import NOTES, SUITES
from mmadm.bench.tables import markdown_tables, summarise, table
from mmadm.structures import SimilarityMaps
from mmadm.utils.checkpoint import write_atomically
from mmadm.utils.errors import ConfigError
from mmadm.visualization.overlay import colour_map, heat_overlay, rgb_image, spread_indices

CLASS_IMAGES = 40


def report(folder: Path, out: Path | None = None, images: bool = True) -> tuple[list[Record], Path]:
    """Write ``results.md`` and the HTML report of a folder of runs.

    Args:
        folder: What ``run`` had as ``--out``.
        out: Where the report goes, ``folder/report.html`` by default.
        images: Whether it shows images of the data set.

    Returns:
        The result records in the order of the suite, and the report.

    Raises:
        ConfigError: If no run is finished there.
    """
    costs = read_json_lines(folder / 'cost.jsonl')
    newest = {(record['method'], record['seed']): record for record in read_json_lines(folder / 'results.jsonl')}
    if not newest:
        raise ConfigError(f'{folder / "results.jsonl"} holds no finished run; start one with: tools/benchmark.py run')
    suite = next(iter(newest.values()))['suite']
    order = list(SUITES[suite])
    records = sorted(newest.values(), key=lambda record: (order.index(record['method']), record['seed']))
    write_atomically(markdown_tables(records, costs).encode(), folder / 'results.md')
    target = out or folder / 'report.html'
    write_report(folder, records, target, *NOTES[suite], images)
    return records, target


def write_report(
    folder: Path, records: Sequence[Record], target: Path, title: str, note: str, images: bool = True
) -> None:
    """Write the page.

    Args:
        folder: Folder of the runs.
        records: Their result records.
        target: HTML file to write.
        title: Headline.
        note: What a reader must know before comparing the figures with others.
        images: Whether to show images of the data set, whose licence may not allow to pass them on.
    """
    write_page(target, title, note, [task_sections(folder, group, images) for group in by_metric(records).values()])


def task_sections(folder: Path, records: Sequence[Record], images: bool) -> dict[str, Any]:
    """Everything that the page says about the runs of one task, see :func:`write_report`."""
    metric = metric_of(records[0])
    task = TASKS[metric]
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record['method'], record)
    runs = {method: open_run(folder / record['work_dir']) for method, record in first.items()}
    costs = read_json_lines(folder / 'cost.jsonl')
    titles, rows = table(records, costs)
    on_val = summarise(records, split='val')
    styles = method_styles(list(first))

    def opened(record: Record) -> FinishedRun:
        """Open a run once."""
        same = record is first[record['method']]
        return runs[record['method']] if same else open_run(folder / record['work_dir'])

    return dict(
        name=task,
        metric=metric,
        header=titles,
        rows=rows,
        gain=gain_section(summarise(records, costs), metric, styles),
        ablation=ablation_section(on_val, metric),
        learning=learning_plots(folder, records, styles),
        losses=[plot(loss_figure(m, loss_curves(folder / r['work_dir'])), f'losses of {m}') for m, r in first.items()],
        examples=examples(runs, task) if images else None,
        confusion=confusion_section(records, on_val, task, opened),
        observations=observation_plots(folder, records),
        similarity=similarity_section(runs, task, images),
        classes=class_table(first, styles),
        records=records,
        environment=records[-1],
        revisions=sorted({record['revision'] for record in records if record['revision']}),
    )


def learning_plots(folder: Path, records: Sequence[Record], styles: Mapping[str, MethodStyle]) -> list[Picture]:
    """One plot per role with the validation curves of every method that trains it."""
    metric, unit = metric_of(records[0]), 'epoch' if 'epochs' in records[0] else 'iteration'
    return [
        plot(
            learning_figure(role, metric, by_method, styles, unit), f'validation {metric} of the role {role} by method'
        )
        for role, by_method in learning_curves(folder, records).items()
    ]


def learning_curves(folder: Path, records: Sequence[Record]) -> dict[str, dict[str, list[Curve]]]:
    """``{role: {method: [curve of each seed]}}`` of the main metric from the runs' logs."""
    curves: dict[str, dict[str, list[Curve]]] = {}
    for record in records:
        stock_role = next(iter(record['val']))
        found = validation_curves(read_scalars(folder / record['work_dir']), stock_role)
        for role, curve in found[metric_of(record)].items():
            curves.setdefault(role, {}).setdefault(record['method'], []).append(curve)
    return curves


def loss_curves(work_dir: Path) -> dict[str, Curve]:
    """Every single loss and every monitor of ADM that a training logged, by key; totals are left out."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for entry in training_entries(read_scalars(work_dir)):
        for key, value in entry.items():
            if key.rpartition('.')[2].startswith(('loss_', 'similarity', 'foreground')):
                curves.setdefault(key, []).append((entry['step'], value))
    return dict(curves)


def similarity_section(runs: dict[str, FinishedRun], task: str, images: bool) -> dict[str, Any] | None:
    """Mean similarity by class and, with ``images``, overlays and their scales, for the first run that has ADM."""
    for method, run in runs.items():
        indices = spread_indices(len(run.dataset), CLASS_IMAGES)
        items = [run.dataset[index] for index in indices]
        maps = [adm_maps(run.model, item) for item in items]
        if None not in maps:
            labels = [class_map(run.dataset, index, task) for index in indices]
            drawn = draw_maps(items, maps) if images else {'rows': [], 'scales': []}
            return {'method': method, **drawn, **draw_classes(run, labels, maps, task)}
    return None


def draw_maps(items: list[dict[str, Any]], maps: list[SimilarityMaps]) -> dict[str, Any]:
    """Pictures of the maps on one scale for all images."""
    shown = spread_indices(len(items), EXAMPLES)
    limits: dict[str, tuple[float, float]] = {}
    rows = [[picture(rgb_image(items[i]), 'image')] for i in shown]
    kinds = [
        ('similarity', 'similarity', 'magma'),
        ('consensus', 'consensus weight', 'viridis'),
        ('divergence', 'divergence weight', 'viridis'),
    ]
    for name, title, colours in kinds:
        values = torch.cat([getattr(maps[i], name).flatten() for i in shown])
        low, high = values.min().item(), values.max().item()
        limits[title] = (low, max(high, low + 1e-6))
        for row, i in zip(rows, shown, strict=True):
            overlay = heat_overlay(rgb_image(items[i]), getattr(maps[i], name)[0], *limits[title], colours)
            row.append(picture(overlay, title))
    scales = [(title, *(f'{limit:.2f}' for limit in limits[title]), scale(colours)) for _, title, colours in kinds]
    return {'rows': rows, 'scales': scales}


def draw_classes(run: FinishedRun, labels: list[Tensor], maps: list[SimilarityMaps], task: str) -> dict[str, Any]:
    """Bars of the mean similarity by class; what lies outside of all boxes counts as a class."""
    classes = [*run.dataset.metainfo['classes'], *(['background'] if task == 'detection' else [])]
    totals = class_similarity(labels, maps, len(classes))
    bars = class_figure(classes, totals.tolist(), 'mean similarity')
    return {'by_class': plot(bars, 'mean similarity by class'), 'images': len(maps)}


def class_similarity(labels: list[Tensor], maps: list[SimilarityMaps], num_classes: int) -> Tensor:
    """Mean similarity by class over all images, each image's map resized to its own labels; shape (K,)."""
    totals, counts = torch.zeros(num_classes), torch.zeros(num_classes)
    for ids, found in zip(labels, maps, strict=True):
        here = torch.bincount(ids[ids != 255].long(), minlength=num_classes)
        totals += torch.nan_to_num(mean_by_class(found.similarity, ids[None], num_classes)) * here
        counts += here
    return totals / counts


def class_table(first: Mapping[str, Record], styles: Mapping[str, MethodStyle]) -> dict[str, Any] | None:
    """Main score by class of each method's roles, if logs held it, and bars of it for the students."""
    scores = {method: record['classes'] for method, record in first.items()}
    columns = {f'{m} {role}': by_class for m, by_role in scores.items() for role, by_class in by_role.items()}
    deployed = {method: by_role[deployed_role(first[method])] for method, by_role in scores.items() if by_role}
    metric = metric_of(next(iter(first.values())))
    return class_scores_section(metric, columns, deployed, styles) if columns else None


def class_scores_section(
    metric: str,
    columns: Mapping[str, Mapping[str, float]],
    drawn: Mapping[str, Mapping[str, float]],
    styles: Mapping[str, MethodStyle],
) -> dict[str, Any]:
    """A table of scores by class, and bars of some of its columns; ``columns`` and ``drawn`` are by name and class."""
    names = list(dict.fromkeys(name for by_class in columns.values() for name in by_class))
    score = metric.removeprefix('m')
    bars = method_figure(drawn, styles, f'{score} (%)') if drawn else None
    return {
        'score': score,
        'columns': list(columns),
        'rows': [(name, [column.get(name) for column in columns.values()]) for name in names],
        'bars': [plot(bars, f'{score} by class')] if bars else [],
    }


def scale(colours: str) -> str:
    """A strip with all colours of a map, low on the left, as a ``data:`` address."""
    return data_uri(png(colour_map(torch.linspace(0, 1, 256)[None].expand(12, -1), 0, 1, colours)))
