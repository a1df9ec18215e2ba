"""ReviewKD: distances of a pyramid of pools (Chen et al., CVPR 2021, arXiv 2104.09044)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import check_mask, check_pair


def hierarchical_distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of a map and of its average pools to 4, 2 and 1 cells (paper, section 3.3).

    They weigh 1, 1/2, 1/4, 1/8 in the order of use, divided by their sum. A pool that is no smaller than the map's
    height is left out and uses no weight; a map narrower than that is pooled up in width, as in the published program.

    Args:
        student: Features of shape (N, C, H, W).
        teacher: The same shape.
        mask: True where a position counts, shape (N, H, W); all positions by default. In each image it must be a
            rectangle at the top left, which is pooled by itself: the value is the mean over images, one without any
            position adds 0.

    Returns:
        A scalar in float32; 0 if the input is empty.

    Raises:
        ValueError: If the shapes differ, or a mask is no such rectangle.
    """
    check_pair('hierarchical_distance', student, teacher, least_dims=4)
    check_mask('hierarchical_distance', mask, student)
    student, teacher = student.float(), teacher.float()
    if mask is None:
        return _of_crop(student, teacher)
    sizes = _rectangles(mask)
    if len(set(sizes)) == 1:
        ((height, width),) = set(sizes)
        return _of_crop(student[:, :, :height, :width], teacher[:, :, :height, :width])
    terms = [
        _of_crop(student[image : image + 1, :, :height, :width], teacher[image : image + 1, :, :height, :width])
        for image, (height, width) in enumerate(sizes)
    ]
    return torch.stack(terms).mean() if terms else student.sum()


def _rectangles(mask: Tensor) -> list[tuple[int, int]]:
    """Height and width of what is True in each image."""
    rows, columns = mask.any(dim=2).sum(dim=1), mask.any(dim=1).sum(dim=1)
    height, width = (torch.arange(side, device=mask.device) for side in mask.shape[1:])
    expected = (height < rows[:, None])[:, :, None] & (width < columns[:, None])[:, None, :]
    if not torch.equal(mask, expected):
        raise ValueError('hierarchical_distance: the mask of each image must be a rectangle at the top left')
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _of_crop(student: Tensor, teacher: Tensor) -> Tensor:
    if not student.numel():
        return (student - teacher).sum()
    difference = student - teacher  # pools are linear
    total, weights, weight = difference.square().mean(), 1.0, 1.0
    for size in (4, 2, 1):
        if size >= student.shape[2]:
            continue
        weight /= 2
        total = total + weight * F.adaptive_avg_pool2d(difference, size).square().mean()
        weights += weight
    return total / weights
