"""FreeKD: frequency bands under prompts that the teacher learnt (Zhang et al., CVPR 2024, arXiv 2311.12079)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import check_mask, check_pair


def haar_bands(feature: Tensor, levels: int = 3) -> tuple[Tensor, list[Tensor]]:
    """Split a map into Haar's orthonormal bands; an odd side is padded by zeros.

    Args:
        feature: Shape (N, C, H, W).
        levels: How often the low band is split again.

    Returns:
        The low band that is left, and of each level, finest first, its three detail bands (N, C, 3, h, w): changes
        along the rows, along the columns and along both; in float32.
    """
    low, details = feature.float(), []
    for _ in range(levels):
        low = F.pad(low, (0, low.shape[3] % 2, 0, low.shape[2] % 2))
        a, b, c, d = (low[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1))
        details.append(torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], dim=2) / 2)
        low = (a + b + c + d) / 2
    return low, details


def prompted_band_distance(student: Tensor, teacher: Tensor, prompts: Tensor, mask: Tensor | None = None) -> Tensor:
    """``sum_j mean |m_j (B_j^s - B_j^t)|``, ``m_j = sigmoid(prompts_j . sum of the teacher's three bands)``.

    Args:
        student: Features of shape (N, C, H, W).
        teacher: The same shape; the caller detaches them, also from the masks.
        prompts: Of each level, shape (levels, T, C).
        mask: True where a position counts, shape (N, H, W); all positions by default. Elsewhere both maps are 0, as
            beyond the border of a map of odd sides; the mean of a level is over the cells of all images in which a
            position counts.

    Returns:
        A scalar in float32; 0 if the input is empty.

    Raises:
        ValueError: If shapes differ.
    """
    check_pair('prompted_band_distance', student, teacher, least_dims=4)
    check_mask('prompted_band_distance', mask, student)
    if prompts.dim() != 3 or prompts.shape[2] != student.shape[1]:
        raise ValueError(
            f'prompted_band_distance: expected prompts (levels, T, C) of {student.shape[1]} channels, found '
            f'{tuple(prompts.shape)}'
        )
    student, teacher = student.float(), teacher.float()
    cells = torch.ones_like(student[:, :1]) if mask is None else mask.unsqueeze(1).to(student.dtype)
    if mask is not None:
        student, teacher = student * cells, teacher * cells
    pairs = zip(haar_bands(student, len(prompts))[1], haar_bands(teacher, len(prompts))[1], strict=True)
    total = student.new_zeros(())
    for prompt, (own, other) in zip(prompts.float(), pairs, strict=True):
        cells = F.max_pool2d(cells, kernel_size=2, ceil_mode=True)
        # autocast would take the products in half precision
        with torch.autocast(student.device.type, enabled=False):
            looked_at = torch.einsum('tc,nchw->nthw', prompt, other.sum(dim=2)).sigmoid().mean(dim=1, keepdim=True)
        # masks are positive and the same for all channels and bands: their mean may be taken first
        per_cell = (own - other).abs().mean(dim=(1, 2)).unsqueeze(1) * looked_at * cells
        total = total + per_cell.sum() / cells.sum().clamp(min=1.0)
    return total
