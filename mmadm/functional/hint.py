"""FitNet's hint (Romero et al. 2015, arXiv 1412.6550; methods.md, section 5)."""

from __future__ import annotations

from torch import Tensor

from mmadm.functional.common import check_pair, valid_mean


def mean_squared_distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of two features.

    Args:
        student: Features of shape (N, C, ...).
        teacher: The same shape.
        mask: True where a position counts, shape (N, ...); all positions by default. The mean is over the positions of
            all images, so an image with more of them weighs more.

    Returns:
        A scalar in float32; 0 if the input is empty.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('mean_squared_distance', student, teacher)
    squared = (student.float() - teacher.float()).square()
    return valid_mean('mean_squared_distance', squared if mask is None else squared.mean(dim=1), mask)
