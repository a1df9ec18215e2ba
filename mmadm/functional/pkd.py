"""PKD: Pearson correlation of features (Cao et al., NeurIPS 2022, arXiv 2207.02039; methods.md, section 5)."""

from __future__ import annotations

from torch import Tensor

from mmadm.functional.common import check_pair


def pearson_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of maps whose channels are standardised over the batch (paper, equation 5).

    Equal to ``1 - r`` averaged over channels, ``r`` Pearson's correlation: neither scale nor offset of a channel
    matters, so networks with features of other magnitude can be compared.

    Args:
        student: Features of shape (N, C, ...).
        teacher: The same shape.

    Returns:
        A scalar in float32; 0 where a channel has fewer than two positions in the whole batch, as on the smallest
        level of a pyramid: there is nothing to correlate.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('pearson_distance', student, teacher)
    if student.numel() < 2 * student.shape[1]:
        return 0 * student.float().sum()
    return (_standardised(student) - _standardised(teacher)).square().mean() / 2


def _standardised(feature: Tensor) -> Tensor:
    # float32: squares of half precision features overflow
    feature = feature.float()
    dims = [0, *range(2, feature.dim())]
    return (feature - feature.mean(dims, keepdim=True)) / (feature.std(dims, keepdim=True) + 1e-6)
