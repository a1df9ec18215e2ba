"""Kullback-Leibler divergence between two class distributions (Hinton et al. 2015; methods.md, section 5)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import check_pair, check_tau, softened, valid_mean


def kl_divergence(student: Tensor, teacher: Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """``tau^2 * KL(softmax(teacher / tau) || softmax(student / tau))``, the mean over the valid positions.

    Args:
        student: Logits of shape (N, K, ...).
        teacher: Logits of the same shape; the caller detaches them.
        tau: Temperature, above 0.
        mask: True where a position counts, shape (N, ...); all positions by default.

    Returns:
        A scalar in float32; 0 if no position is valid or the input is empty.

    Raises:
        ValueError: If the shapes differ or tau is not positive.
    """
    check_pair('kl_divergence', student, teacher)
    check_tau('kl_divergence', tau)
    log_student, log_teacher = (softened(z, tau).log_softmax(dim=1) for z in (student, teacher))
    per_position = F.kl_div(log_student, log_teacher, reduction='none', log_target=True).sum(dim=1)
    return tau**2 * valid_mean('kl_divergence', per_position, mask)


def binary_kl_divergence(student: Tensor, teacher: Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """The divergence for heads that decide each class on its own (sigmoid): one Bernoulli distribution per class.

    ``tau^2 * sum_c KL(Bernoulli(sigmoid(teacher_c / tau)) || Bernoulli(sigmoid(student_c / tau)))``, the mean over the
    valid positions.

    Args:
        student: Logits of shape (N, K, ...).
        teacher: Logits of the same shape; the caller detaches them.
        tau: Temperature, above 0.
        mask: True where a position counts, shape (N, ...); all positions by default.

    Returns:
        A scalar in float32; 0 if no position is valid or the input is empty.

    Raises:
        ValueError: If the shapes differ or tau is not positive.
    """
    check_pair('binary_kl_divergence', student, teacher)
    check_tau('binary_kl_divergence', tau)
    scaled_student, scaled_teacher = softened(student, tau), softened(teacher, tau)
    # cross-entropy less entropy: half of the time of both outcomes written out, and one map is kept for the gradient
    target = scaled_teacher.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(scaled_student, target, reduction='none')
    entropy = F.binary_cross_entropy_with_logits(scaled_teacher, target, reduction='none')
    per_position = (cross_entropy - entropy).sum(dim=1)
    return tau**2 * valid_mean('binary_kl_divergence', per_position, mask)
