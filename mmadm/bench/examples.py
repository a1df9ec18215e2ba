"""Pictures of what finished runs predict, for segmentation and for detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from torch import Tensor

from mmadm.bench.boxes import box_map, count_found, draw_boxes, predicted_boxes, true_boxes
from mmadm.bench.finished_runs import FinishedRun, predict, right_pixels, truth
from mmadm.bench.pictures import Picture, paint, picture
from mmadm.visualization.overlay import rgb_image, spread_indices

EXAMPLES = 4


def examples(runs: Mapping[str, FinishedRun], task: str) -> dict[str, Any]:
    """Rows of ground truth and the prediction of every method, for images spread over the data set.

    Args:
        runs: Finished runs by method, all of one data set.
        task: ``segmentation`` or ``detection``.

    Returns:
        ``rows`` and ``legend``: (name, CSS colour) of the classes that they show.
    """
    dataset = next(iter(runs.values())).dataset
    names, palette = dataset.metainfo['classes'], palette_of(dataset)
    row = {'segmentation': segmentation_row, 'detection': detection_row}[task]
    table, shown = [], set()
    for index in spread_indices(len(dataset), EXAMPLES):
        pictures, classes = row(runs, index)
        table.append(pictures)
        shown |= classes
    legend = [(names[i], f'rgb{tuple(palette[i])}') for i in range(len(names)) if i in shown]
    return {'rows': table, 'legend': legend}


def segmentation_row(runs: Mapping[str, FinishedRun], index: int) -> tuple[list[Picture], set[int]]:
    """Image, ground truth and predictions of one image; also the class ids that they show."""
    dataset = next(iter(runs.values())).dataset
    item, palette = dataset[index], palette_of(dataset)
    labels = truth(item)
    shown = set(labels.unique().tolist())
    row = [picture(rgb_image(item), 'image'), picture(paint(labels, palette), 'ground truth')]
    for method, run in runs.items():
        prediction = predict(run, item)
        shown |= set(prediction.unique().tolist())
        caption = f'{method}: {right_pixels(prediction, labels):.1f} % of pixels right'
        row.append(picture(paint(prediction, palette), caption))
    return row, shown


def detection_row(runs: Mapping[str, FinishedRun], index: int) -> tuple[list[Picture], set[int]]:
    """One image with the boxes of the ground truth and of every method; also the class ids that they show."""
    dataset = next(iter(runs.values())).dataset
    item, palette = dataset[index], palette_of(dataset)
    image, boxes = rgb_image(item), true_boxes(dataset, index)
    shown = set(boxes.labels.tolist())
    row = [picture(draw_boxes(image, boxes, palette), f'ground truth: {len(boxes.labels)} boxes')]
    for method, run in runs.items():
        predicted = predicted_boxes(run, item)
        shown |= set(predicted.labels.tolist())
        found = count_found(predicted, boxes)
        caption = f'{method}: {found} of {len(boxes.labels)} boxes found, {len(predicted.labels) - found} wrong'
        row.append(picture(draw_boxes(image, predicted, palette), caption))
    return row, shown


def palette_of(dataset: Any) -> list[tuple[int, int, int]]:
    """Colour of each class: what the data set says, else one of our own."""
    told = dataset.metainfo.get('palette')
    if isinstance(told, list | tuple):
        return [tuple(colour) for colour in told]
    number = len(dataset.metainfo['classes'])
    colours = mpl.colormaps['hsv'](np.linspace(0, 1, number, endpoint=False))[:, :3]
    return [tuple(colour) for colour in (255 * colours).astype(int).tolist()]


def class_map(dataset: Any, index: int, task: str) -> Tensor:
    """Class id of every pixel (H, W) of a packed image; outside of all boxes the id after the last class."""
    item = dataset[index]
    if task == 'segmentation':
        return truth(item)
    return box_map(true_boxes(dataset, index), tuple(item['inputs'].shape[1:]), len(dataset.metainfo['classes']))
