"""Kullback-Leibler divergence between two class distributions (Hinton et al. 2015; methods.md, section 5)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import check_pair, check_tau, softened, valid_mean


def kl_divergence(student: Tensor, teacher: Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """``tau^2 * KL(softmax(teacher / tau) || softmax(student / tau))``, the mean over the valid positions.

    Args:
        student: Logits of shape (N, K, ...).
        teacher: Logits of the same shape.
        tau: Temperature, above 0.
        mask: True where a position counts, shape (N, ...); all positions by default.

    Returns:
        A scalar in float32; 0 if no position is valid or the input is empty.

    Raises:
        ValueError: If the shapes differ or tau is not positive.
    """
    check_pair('kl_divergence', student, teacher)
    check_tau('kl_divergence', tau)
    log_student, log_teacher = (F.log_softmax(softened(z, tau), dim=1) for z in (student, teacher))
    per_position = F.kl_div(log_student, log_teacher, reduction='none', log_target=True).sum(dim=1)
    return tau**2 * valid_mean('kl_divergence', per_position, mask)


def binary_kl_divergence(student: Tensor, teacher: Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """The divergence for heads that decide each class on its own (sigmoid): one Bernoulli distribution per class.

    ``tau^2 * sum_c KL(Bernoulli(sigmoid(teacher_c / tau)) || Bernoulli(sigmoid(student_c / tau)))``, the mean over the
    valid positions.

    Args:
        student: Logits of shape (N, K, ...).
        teacher: Logits of the same shape.
        tau: Temperature, above 0.
        mask: True where a position counts, shape (N, ...); all positions by default.

    Returns:
        A scalar in float32; 0 if no position is valid or the input is empty.

    Raises:
        ValueError: If the shapes differ or tau is not positive.
    """
    check_pair('binary_kl_divergence', student, teacher)
    check_tau('binary_kl_divergence', tau)
    z_student, z_teacher = softened(student, tau), softened(teacher, tau)
    # logsigmoid(-z) is log(1 - p) without the difference that rounds to 0 for a confident class
    present = z_teacher.sigmoid() * (F.logsigmoid(z_teacher) - F.logsigmoid(z_student))
    absent = (-z_teacher).sigmoid() * (F.logsigmoid(-z_teacher) - F.logsigmoid(-z_student))
    return tau**2 * valid_mean('binary_kl_divergence', (present + absent).sum(dim=1), mask)
