"""DIST: distillation from a stronger teacher (Huang et al., NeurIPS 2022, arXiv 2205.10536; methods.md, section 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from mmadm.functional.common import centred, check_pair, check_tau, softened, valid_mean


def dist_distance(
    student: Tensor,
    teacher: Tensor,
    tau: float = 1.0,
    inter: float = 1.0,
    intra: float = 1.0,
    mask: Tensor | None = None,
    binary: bool = False,
) -> Tensor:
    """``tau^2 * (inter * D_inter + intra * D_intra)``: Pearson distances between tables of probabilities.

    The table has a row for each valid position of the batch and a column for each class. ``D_inter`` is
    ``1 - r`` between rows (how classes rank at one position), averaged over rows; ``D_intra`` between columns (how
    positions rank for one class), averaged over classes (paper, equations 8 and 9).

    Args:
        student: Logits of shape (N, K, ...).
        teacher: The same shape.
        tau: Temperature, above 0.
        inter: Weight of ``D_inter``.
        intra: Weight of ``D_intra``.
        mask: True where a position counts, shape (N, ...); all positions by default. The rows of all images make one
            table, so an image with more of them weighs more.
        binary: Whether each class has a sigmoid of its own instead of one softmax over all.

    Returns:
        A scalar in float32; 0 if no position is valid or the input is empty.

    Raises:
        ValueError: If the shapes differ or tau is not positive.
    """
    check_pair('dist_distance', student, teacher)
    check_tau('dist_distance', tau)
    p_student, p_teacher = _probabilities(student, tau, binary), _probabilities(teacher, tau, binary)
    rows_student, rows_teacher = (p - p.mean(dim=1, keepdim=True) for p in (p_student, p_teacher))
    per_position = 1 - _correlation(rows_student, rows_teacher, 1)
    inter_distance = valid_mean('dist_distance', per_position, mask)
    columns = _correlation(centred(p_student, mask)[0], centred(p_teacher, mask)[0], [0, 2])
    intra_distance = (1 - columns).mean() * (per_position.numel() > 0 if mask is None else mask.any())
    return tau**2 * (inter * inter_distance + intra * intra_distance)


def _probabilities(logits: Tensor, tau: float, binary: bool) -> Tensor:
    scaled = softened(logits, tau)
    return scaled.sigmoid() if binary else scaled.softmax(dim=1)


def _correlation(a: Tensor, b: Tensor, dim: int | list[int]) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return (a * b).sum(dim) / (lengths + 1e-8)
