"""PKD: Pearson correlation of features (Cao et al., NeurIPS 2022, arXiv 2207.02039; methods.md, section 5)."""

from __future__ import annotations

from torch import Tensor

from mmadm.functional.common import centred, check_mask, check_pair


def pearson_distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Half the mean squared difference of maps whose channels are standardised over the batch (paper, equation 5).

    Equal to ``1 - r`` averaged over channels, ``r`` Pearson's correlation: neither scale nor offset of a channel
    matters, so networks with features of other magnitude can be compared.

    Args:
        student: Features of shape (N, C, ...).
        teacher: The same shape; the caller detaches them.
        mask: True where a position counts, shape (N, ...); all positions by default. Mean and spread are taken over
            the positions that count in the whole batch, each of which weighs the same.

    Returns:
        A scalar in float32; 0 where a channel has fewer than two positions in the whole batch, as on the smallest
        level of a pyramid: there is nothing to correlate.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('pearson_distance', student, teacher)
    check_mask('pearson_distance', mask, student)
    if student.numel() < 2 * student.shape[1]:
        return 0 * student.float().sum()
    (own, _, count), (other, _, _) = centred(student, mask), centred(teacher, mask)
    # the square written out: two maps are kept for the gradient, standardised ones would make a dozen
    of_own, of_other, shared = ((a * b).sum(dim=(0, 2)) for a, b in ((own, own), (other, other), (own, other)))
    degrees = count - 1 if isinstance(count, int) else (count - 1).clamp(min=1.0)
    # the floor keeps the gradient of the root of a channel without spread finite
    own_spread, other_spread = ((square / degrees).clamp(min=1e-24).sqrt() + 1e-6 for square in (of_own, of_other))
    squares = of_own / own_spread.square() + of_other / other_spread.square()
    return ((squares - 2 * shared / (own_spread * other_spread)) / (2 * count)).mean()
