"""RKD: distances and angles between vectors (Park et al., CVPR 2019, arXiv 1904.05068)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def relation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 distance of all pairwise distances, each side's divided by its mean positive one (paper, equation 4).

    Args:
        student: Vectors of shape (N, C), such as pooled features or class means.
        teacher: Vectors (N, D); channels may differ.

    Returns:
        The mean over N^2 entries, a scalar in float32; 0 for fewer than two vectors.

    Raises:
        ValueError: If the numbers of vectors differ.
    """
    _check_rows('relation_distance', student, teacher)
    own, other = (_relative_distances(rows.float()) for rows in (student, teacher))
    return F.smooth_l1_loss(own, other, reduction='sum') / max(own.numel(), 1)


def relation_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 distance of the cosines of the angles in all triples (paper, equation 6); memory grows as N^3.

    Args:
        student: Vectors of shape (N, C).
        teacher: Vectors (N, D); channels may differ.

    Returns:
        The mean over N^3 entries, a scalar in float32; a triple in which points coincide has the cosine 0.

    Raises:
        ValueError: If the numbers of vectors differ.
    """
    _check_rows('relation_angle', student, teacher)
    own, other = (_cosines(rows.float()) for rows in (student, teacher))
    return F.smooth_l1_loss(own, other, reduction='sum') / max(own.numel(), 1)


def _check_rows(name: str, student: Tensor, teacher: Tensor) -> None:
    if student.dim() != 2 or teacher.dim() != 2 or len(student) != len(teacher):
        raise ValueError(
            f'{name}: expected as many vectors (N, C) of both, found student {tuple(student.shape)} and teacher '
            f'{tuple(teacher.shape)}'
        )


def _relative_distances(rows: Tensor) -> Tensor:
    # differences themselves: distances from squared lengths would lose the digits of near points
    distances = torch.linalg.vector_norm(rows[:, None] - rows, dim=2)
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    relative: Tensor = distances / mean.clamp(min=1e-12)
    return relative


def _cosines(rows: Tensor) -> Tensor:
    directions = F.normalize(rows - rows[:, None], dim=2)
    return directions @ directions.transpose(1, 2)
