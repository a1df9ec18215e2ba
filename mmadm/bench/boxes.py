"""Boxes on images: the ground truth, and what a detector finds of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch import Tensor

from mmadm.bench.finished_runs import FinishedRun, run_model
from mmadm.bench.pictures import enlarge
from mmadm.visualization.overlay import Image

SURE = 0.3  # a box with a lower score is not shown
SAME = 0.5  # boxes that overlap as much (intersection over union) are of one thing


@dataclass(frozen=True)
class Boxes:
    """Boxes on one image.

    Attributes:
        corners: Left, top, right and bottom in pixels of the packed image, shape (n, 4).
        labels: Class ids, shape (n,).
    """

    corners: Tensor
    labels: Tensor


def true_boxes(dataset: Any, index: int) -> Boxes:
    """Ground truth of an image of a stock mmdet data set, crowds left out.

    Args:
        dataset: The data set.
        index: Number of the image.
    """
    # not from the packed sample, whose boxes are resized with the image or not, as the pipeline has it
    found = [one for one in dataset.get_data_info(index)['instances'] if not one['ignore_flag']]
    corners = torch.tensor([one['bbox'] for one in found], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([one['bbox_label'] for one in found], dtype=torch.long)
    return Boxes(corners * _scale(dataset[index]), labels)


def predicted_boxes(run: FinishedRun, item: dict[str, Any]) -> Boxes:
    """What the deploy role, or the stock model, finds in a packed image, see :func:`sure_boxes`."""
    return sure_boxes(run_model(run.model, item).pred_instances, _scale(item))


def sure_boxes(instances: Any, scale: Tensor) -> Boxes:
    """Predictions with a score of at least ``SURE``, surest first.

    Args:
        instances: Stock ``InstanceData`` with ``bboxes``, ``scores`` and ``labels``.
        scale: What the corners are multiplied with, shape (4,).
    """
    order = instances.scores.argsort(descending=True, stable=True)
    order = order[instances.scores[order] >= SURE]
    return Boxes(instances.bboxes[order].cpu() * scale, instances.labels[order].cpu())


def _scale(item: dict[str, Any]) -> Tensor:
    """Factors (4,) from the stored image, in whose pixels mmdet predicts, to the packed one."""
    width, height = item['data_samples'].metainfo.get('scale_factor', (1.0, 1.0))
    return torch.tensor([width, height, width, height], dtype=torch.float32)


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (n, 4) with boxes (m, 4), shape (n, m)."""
    sides = torch.minimum(boxes[:, None, 2:], others[:, 2:]) - torch.maximum(boxes[:, None, :2], others[:, :2])
    shared = sides.clamp(min=0).prod(dim=-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(dim=-1) for b in (boxes, others)]
    return shared / (areas[0][:, None] + areas[1] - shared)


def count_found(predicted: Boxes, truth: Boxes) -> int:
    """How many boxes of the ground truth are found: each by one prediction of its class that overlaps by ``SAME``."""
    fits = overlaps(predicted.corners, truth.corners)
    fits[predicted.labels[:, None] != truth.labels] = 0
    count = 0
    for row in range(len(fits)):  # surest first, as COCO matches
        if truth.labels.numel() and fits[row].max() >= SAME:
            fits[:, fits[row].argmax()] = 0
            count += 1
    return count


def draw_boxes(image: Image, boxes: Boxes, palette: Sequence[Sequence[int]]) -> Image:
    """Outline boxes in the colours of their classes on an enlarged copy of an RGB image (H, W, 3)."""
    canvas = enlarge(image)
    factor = canvas.shape[1] // image.shape[1]
    for corners, label in zip((boxes.corners * factor).round().int().tolist(), boxes.labels.tolist(), strict=True):
        left, top, right, bottom = corners
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), tuple(palette[label]), thickness=2)
    return canvas


def box_map(boxes: Boxes, size: tuple[int, int], background: int) -> Tensor:
    """Class ids (H, W) that count a pixel for the smallest box around it, or for the background.

    Args:
        boxes: Boxes.
        size: Height and width of the image.
        background: Id of what lies in no box.
    """
    ids = torch.full(size, background)
    areas = (boxes.corners[:, 2:] - boxes.corners[:, :2]).prod(dim=-1)
    for index in areas.argsort(descending=True).tolist():
        left, top, right, bottom = boxes.corners[index].round().int().clamp(min=0).tolist()
        ids[top:bottom, left:right] = boxes.labels[index]
    return ids
