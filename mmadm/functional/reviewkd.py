"""ReviewKD: distances of a pyramid of pools (Chen et al., CVPR 2021, arXiv 2104.09044)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import check_mask, check_pair

#: Sides of the pools
SIZES = (4, 2, 1)


def hierarchical_distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of a map and of its average pools to 4, 2 and 1 cells (paper, section 3.3).

    They weigh 1, 1/2, 1/4, 1/8 in the order of use, divided by their sum. A pool that is no smaller than the map's
    height is left out and uses no weight; a map narrower than that is pooled up in width, as in the published program.

    Args:
        student: Features of shape (N, C, H, W).
        teacher: The same shape.
        mask: True where a position counts, shape (N, H, W); all positions by default. Of each image the rows and
            columns up to the last one that counts are pooled by themselves, each cell from what counts in it: the value
            is the mean over images, one without any position adds 0.

    Returns:
        A scalar in float32; 0 if the input is empty.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('hierarchical_distance', student, teacher, least_dims=4)
    check_mask('hierarchical_distance', mask, student)
    difference = student.float() - teacher.float()  # pools are linear
    if not difference.numel():
        return difference.sum()
    return _whole(difference) if mask is None else _masked(difference, mask)


def _whole(difference: Tensor) -> Tensor:
    total, weights, weight = difference.square().mean(), 1.0, 1.0
    for size in (size for size in SIZES if size < difference.shape[2]):
        weight /= 2
        total = total + weight * F.adaptive_avg_pool2d(difference, size).square().mean()
        weights += weight
    return total / weights


def _masked(difference: Tensor, mask: Tensor) -> Tensor:
    """The mean over images whose sizes are known to the device alone: pools are products with matrices."""
    valid = mask.unsqueeze(1).to(difference.dtype)
    difference = difference * valid
    channels = difference.shape[1]
    rows, columns = (_extent(mask.any(dim=other)) for other in (2, 1))
    of_rows, of_columns = (_bins(*known) for known in ((rows, mask.shape[1]), (columns, mask.shape[2])))
    with torch.autocast(difference.device.type, enabled=False):
        sums, counts = (of_rows @ values @ of_columns.transpose(2, 3) for values in (difference, valid))
    pools = (sums / counts.clamp(min=1.0)).square().sum(dim=1)
    total = difference.square().sum(dim=(1, 2, 3)) / (channels * valid.sum(dim=(1, 2, 3))).clamp(min=1.0)
    weight = weights = torch.ones_like(total)
    start = 0
    for size in SIZES:
        used = (rows > size).to(total.dtype)
        weight = weight * (1 - used / 2)
        pool = pools[:, start : start + size, start : start + size].mean(dim=(1, 2)) / channels
        total, weights, start = total + used * weight * pool, weights + used * weight, start + size
    return (total / weights).mean()


def _extent(counts: Tensor) -> Tensor:
    """Index behind the last True of each row of a tensor (N, L)."""
    return (counts * torch.arange(1, counts.shape[1] + 1, device=counts.device)).amax(dim=1)


def _bins(length: Tensor, cells: int) -> Tensor:
    """Which cells each bin of the adaptive pools covers where only the first ``length`` (N,) of them are pooled."""
    cell, found = torch.arange(cells, device=length.device), []
    for size in SIZES:
        number = torch.arange(size, device=length.device)
        start = number * length[:, None] // size
        stop = ((number + 1) * length[:, None] + size - 1) // size
        found.append((cell >= start[..., None]) & (cell < stop[..., None]))
    return torch.cat(found, dim=1).unsqueeze(1).float()
