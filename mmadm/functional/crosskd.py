"""CrossKD and BCKD: what their heads' predictions are compared by.

CrossKD (Wang et al., CVPR 2024, arXiv 2306.11369) passes the student's features through the teacher's head; BCKD (Yang
et al., ICCV 2023, arXiv 2308.14286) compares the heads' own scores by the same function.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import centred, check_mask, check_pair


def align_statistics(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Give each channel of the student's feature the teacher's mean and spread over the batch.

    ``(H_s - mean_s) / (std_s + 1e-6) * std_t + mean_t``: what the teacher's layers behind it are used to. Nothing is
    constant: the gradient runs through the student's statistics too. Of the published program's unbiased deviations
    the correction cancels.

    Args:
        student: Features of shape (N, C, ...).
        teacher: The same shape.
        mask: True where a position counts, shape (N, ...); all positions by default. Mean and spread are those of the
            positions that count in the whole batch, each of which weighs the same; all positions are mapped.

    Returns:
        The same shape in float32.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('align_statistics', student, teacher)
    check_mask('align_statistics', mask, student)
    spreads, means = [], []
    for feature in (student, teacher):
        difference, mean, count = centred(feature, mask)
        # the floor keeps the gradient of the root of a channel without spread finite
        spreads.append((difference.square().sum(dim=(0, 2)) / count).clamp(min=1e-24).sqrt())
        means.append(mean)
    shape = (-1, *(1,) * (student.dim() - 2))
    scale = (spreads[1] / (spreads[0] + 1e-6)).view(shape)
    return (student.float() - means[0].view(shape)) * scale + means[1].view(shape)


def focal_binary_divergence(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor | None = None,
    beta: float = 1.0,
    normalizer: Tensor | float = 1.0,
) -> Tensor:
    """``1 / Z sum w |sigmoid(s) - sigmoid(t)|^beta BCE(s, sigmoid(t))``: classes count as they are disagreed on.

    Rows of the background fall out by themselves, as both scores are near 0 there. The gradient runs through the factor
    too (CrossKD, equation 5; BCKD, equation 8).

    Args:
        student: Scores before the sigmoid, rows (P, K) or maps (N, K, ...).
        teacher: The same shape.
        weights: Of rows (P,) or positions (N, ...), 0 where one does not count, as outside of the image; 1 by default.
        beta: Exponent of the factor.
        normalizer: ``Z``, such as the number of positives.

    Returns:
        A scalar in float32; 0 if the input is empty.

    Raises:
        ValueError: If shapes differ.
    """
    check_pair('focal_binary_divergence', student, teacher)
    check_mask('focal_binary_divergence', weights, student)
    scores, target = student.float(), teacher.float().sigmoid()
    factor = (target - scores.sigmoid()).abs()
    entropy = F.binary_cross_entropy_with_logits(scores, target, reduction='none')
    per_row = ((factor if beta == 1 else factor.pow(beta)) * entropy).sum(dim=1)
    return (per_row if weights is None else per_row * weights).sum() / normalizer
