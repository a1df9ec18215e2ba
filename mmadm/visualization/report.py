"""One HTML page about a folder of benchmark runs; it needs no network and no other file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from torch import Tensor, nn

from mmadm.utils.runs import (
    Record,
    Row,
    cells,
    header,
    read_scalars,
    scored_split,
    summarise,
    training_entries,
    validation_curves,
)
from mmadm.visualization.curves import (
    Curve,
    class_figure,
    data_uri,
    learning_figure,
    loss_figure,
    method_colours,
    png_uri,
)
from mmadm.visualization.samples import (
    FinishedRun,
    open_run,
    paint,
    png,
    predict,
    rgb_image,
    right_pixels,
    spread_indices,
    truth,
)
from mmadm.visualization.similarity import colour_map, heat_overlay, mean_by_class

EXAMPLES = 4
CLASS_IMAGES = 40


@dataclass(frozen=True)
class Maps:
    """What ADM sees on a batch of images, each of shape (N, h, w).

    Attributes:
        similarity: Cosine similarity of student and teacher.
        consensus: The student's position weights as multiples of the uniform weight.
        divergence: The teacher's position weights, likewise.
    """

    similarity: Tensor
    consensus: Tensor
    divergence: Tensor


@dataclass(frozen=True)
class Picture:
    """An image of the page: its ``data:`` address and the words below it."""

    uri: str
    caption: str


#: Computes the maps for a batch of a run, or None if its model has no ADM distiller
MapsOf = Callable[[nn.Module, dict[str, Any]], Maps | None]


def write_report(folder: Path, records: Sequence[Record], target: Path, title: str, note: str, maps_of: MapsOf) -> None:
    """Write the page.

    Args:
        folder: Folder of the runs.
        records: Their result records.
        target: HTML file to write.
        title: Headline.
        note: What a reader must know before comparing the figures with others.
        maps_of: Computes similarity and weights with a run's model. Passed in, because this package knows neither
            distillers nor adapters.
    """
    first = {record['method']: record for record in reversed(records)}
    first = {record['method']: first[record['method']] for record in records}
    runs = {method: open_run(folder / record['work_dir']) for method, record in first.items()}
    rows = summarise(records)
    environment = Environment(
        loader=PackageLoader('mmadm.visualization'), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template('report.html.j2').render(
        title=title,
        note=note,
        header=header(scored_split(records)),
        rows=[(row.method, cells(row)[1:], gain(row, rows)) for row in rows],
        learning=learning_plots(folder, records),
        losses=[plot(loss_figure(m, loss_curves(folder / r['work_dir'])), f'losses of {m}') for m, r in first.items()],
        **examples(runs),
        similarity=similarity_section(runs, maps_of),
        classes=class_table(first),
        records=records,
        environment=records[-1],
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding='utf-8')


def gain(row: Row, rows: Sequence[Row]) -> str:
    """How far a method's student is above the plain student in points, as text; empty where that says nothing."""
    means = {r.method: sum(r.scores['student']) / r.seeds for r in rows if 'student' in r.scores}
    if row.method == 'student' or not {'student', row.method} <= means.keys():
        return ''
    return f'{means[row.method] - means["student"]:+.2f}'


def plot(figure: Figure, caption: str) -> Picture:
    """A figure as a picture of the page."""
    return Picture(png_uri(figure), caption)


def learning_plots(folder: Path, records: Sequence[Record]) -> list[Picture]:
    """One plot per role with the validation curves of every method that trains it."""
    colours = method_colours(list(dict.fromkeys(record['method'] for record in records)))
    return [
        plot(learning_figure(role, by_method, colours), f'validation mIoU of the role {role} by method')
        for role, by_method in learning_curves(folder, records).items()
    ]


def learning_curves(folder: Path, records: Sequence[Record]) -> dict[str, dict[str, list[Curve]]]:
    """``{role: {method: [curve of each seed]}}`` from the runs' logs."""
    curves: dict[str, dict[str, list[Curve]]] = {}
    for record in records:
        stock_role = next(iter(record['val']))
        by_role = validation_curves(read_scalars(folder / record['work_dir']), stock_role)
        for role, curve in by_role.items():
            curves.setdefault(role, {}).setdefault(record['method'], []).append(curve)
    return curves


def loss_curves(work_dir: Path) -> dict[str, Curve]:
    """Every single loss and every similarity that a training logged, by key; totals are left out."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for entry in training_entries(read_scalars(work_dir)):
        for key, value in entry.items():
            if key.rpartition('.')[2].startswith(('loss_', 'similarity')):
                curves.setdefault(key, []).append((entry['step'], value))
    return dict(curves)


def examples(runs: dict[str, FinishedRun]) -> dict[str, Any]:
    """Rows of image, ground truth and the prediction of every method, for images spread over the data set.

    Returns:
        ``examples``, the rows, and ``legend``: (name, CSS colour) of the classes that they show.
    """
    dataset = next(iter(runs.values())).dataset
    names, palette = dataset.metainfo['classes'], dataset.metainfo['palette']
    table, shown = [], set()
    for index in spread_indices(len(dataset), EXAMPLES):
        item = dataset[index]
        labels = truth(item)
        shown |= set(labels.unique().tolist())
        row = [picture(rgb_image(item), 'image'), picture(paint(labels, palette), 'ground truth')]
        for method, run in runs.items():
            prediction = predict(run, item)
            shown |= set(prediction.unique().tolist())
            caption = f'{method}: {right_pixels(prediction, labels):.1f} % of pixels right'
            row.append(picture(paint(prediction, palette), caption))
        table.append(row)
    legend = [(names[i], f'rgb{tuple(palette[i])}') for i in range(len(names)) if i in shown]
    return {'examples': table, 'legend': legend}


def similarity_section(runs: dict[str, FinishedRun], maps_of: MapsOf) -> dict[str, Any] | None:
    """Overlays, colour scales and mean similarity by class for the first run that has an ADM distiller."""
    for method, run in runs.items():
        indices = spread_indices(len(run.dataset), CLASS_IMAGES)
        items = [run.dataset[index] for index in indices]
        maps = [maps_of(run.model, item) for item in items]
        if None not in maps:
            return {'method': method, **draw_maps(run, items, maps)}
    return None


def draw_maps(run: FinishedRun, items: list[dict[str, Any]], maps: list[Maps]) -> dict[str, Any]:
    """Pictures of the maps on one scale for all images, and the mean by class."""
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
    classes = run.dataset.metainfo['classes']
    totals = class_similarity(items, maps, len(classes))
    return {
        'rows': rows,
        'scales': [
            (title, *(f'{limit:.2f}' for limit in limits[title]), scale(colours)) for _, title, colours in kinds
        ],
        'by_class': plot(class_figure(classes, totals.tolist(), 'mean similarity'), 'mean similarity by class'),
        'images': len(items),
    }


def class_similarity(items: list[dict[str, Any]], maps: list[Maps], num_classes: int) -> Tensor:
    """Mean similarity by class over all images, each image's map resized to its own labels; shape (K,)."""
    totals, counts = torch.zeros(num_classes), torch.zeros(num_classes)
    for item, found in zip(items, maps, strict=True):
        labels = truth(item)
        here = torch.bincount(labels[labels != 255].long(), minlength=num_classes)
        totals += torch.nan_to_num(mean_by_class(found.similarity, labels[None], num_classes)) * here
        counts += here
    return totals / counts


def class_table(first: dict[str, Record]) -> dict[str, Any] | None:
    """IoU by class of each method's deployed network, if test logs held it."""
    scores = {method: record['classes'] for method, record in first.items()}
    columns = {f'{m} {role}': by_class for m, by_role in scores.items() for role, by_class in by_role.items()}
    if not columns:
        return None
    names = list(dict.fromkeys(name for by_class in columns.values() for name in by_class))
    return {
        'columns': list(columns),
        'rows': [(name, [column.get(name) for column in columns.values()]) for name in names],
    }


def picture(image: Any, caption: str) -> Picture:
    """An RGB image (H, W, 3) with its caption."""
    return Picture(data_uri(png(image)), caption)


def scale(colours: str) -> str:
    """A strip with all colours of a map, low on the left, as a ``data:`` address."""
    return data_uri(png(colour_map(torch.linspace(0, 1, 256)[None].expand(12, -1), 0, 1, colours)))
