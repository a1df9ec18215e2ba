"""Overlaps of boxes, and the losses of decoded boxes that CrossKD, BCKD and LD share."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from mmadm.functional.common import check_pair

BoxKind = Literal['giou', 'log_iou']
EPS = 1e-6


def box_overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of boxes (x1, y1, x2, y2), and their union.

    Args:
        a: Shape (..., 4).
        b: A shape that broadcasts with it: (n, 1, 4) and (m, 4) give all pairs.

    Returns:
        Two tensors of the shape of the pairs.
    """
    overlap = _area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - overlap
    return overlap / union.clamp(min=EPS), union


def enclosing_corners(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """First and last corner of the smallest box around both, each (..., 2); see :func:`box_overlap`."""
    return torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])


def box_distance(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor | None = None,
    kind: BoxKind = 'giou',
    normalizer: Tensor | float = 1.0,
) -> Tensor:
    """``1 / Z sum w (1 - GIoU)``, or ``-log(max(IoU, 1e-6))`` in its place, of decoded boxes.

    Args:
        student: Boxes (P, 4) as (x1, y1, x2, y2).
        teacher: The same shape.
        weights: Of rows (P,), 0 where one does not count; 1 by default. Constant: the caller detaches them.
        kind: ``giou`` or ``log_iou``; by the latter a teacher's box without area counts 0, since nothing overlaps it.
        normalizer: ``Z``, such as the number of positives.

    Returns:
        A scalar in float32; 0 if there are no rows.

    Raises:
        ValueError: If shapes differ or the kind is unknown.
    """
    check_pair('box_distance', student, teacher)
    if kind not in get_args(BoxKind):
        raise ValueError(f'box_distance: kind must be one of {get_args(BoxKind)}, found {kind!r}')
    student, teacher = student.float(), teacher.float()
    iou, union = box_overlap(student, teacher)
    if kind == 'log_iou':
        per_row = -iou.clamp(min=EPS).log() * (_area(teacher[..., :2], teacher[..., 2:]) > 0)
    else:
        around = _area(*enclosing_corners(student, teacher)).clamp(min=EPS)
        per_row = 1 - (iou - (around - union) / around)
    return (per_row if weights is None else per_row * weights).sum() / normalizer


def _area(first: Tensor, last: Tensor) -> Tensor:
    return (last - first).clamp(min=0).prod(dim=-1)
