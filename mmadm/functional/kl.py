"""Kullback-Leibler divergence between two class distributions (Hinton et al. 2015; methods.md, section 5)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import check_pair, check_tau, softened, valid_mean


def kl_divergence(student: Tensor, teacher: Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """``tau^2 * KL(softmax(teacher / tau) || softmax(student / tau))``, the mean over the valid positions.

    Args:
        student: Logits of shape (N, K, ...).
        teacher: Logits of the same shape; gets no gradient.
        tau: Temperature, above 0.
        mask: True where a position counts, shape (N, ...); all positions by default.

    Returns:
        A scalar in float32; 0 if no position is valid or the input is empty.

    Raises:
        ValueError: If the shapes differ or tau is not positive.
    """
    check_pair('kl_divergence', student, teacher)
    check_tau('kl_divergence', tau)
    per_position = _divergence(softened(student, tau), softened(teacher, tau), binary=False)
    return tau**2 * valid_mean('kl_divergence', per_position, mask)


def binary_kl_divergence(student: Tensor, teacher: Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """The divergence for heads that decide each class on its own (sigmoid): one Bernoulli distribution per class.

    ``tau^2 * sum_c KL(Bernoulli(sigmoid(teacher_c / tau)) || Bernoulli(sigmoid(student_c / tau)))``, the mean over the
    valid positions.

    Args:
        student: Logits of shape (N, K, ...).
        teacher: Logits of the same shape; gets no gradient.
        tau: Temperature, above 0.
        mask: True where a position counts, shape (N, ...); all positions by default.

    Returns:
        A scalar in float32; 0 if no position is valid or the input is empty.

    Raises:
        ValueError: If the shapes differ or tau is not positive.
    """
    check_pair('binary_kl_divergence', student, teacher)
    check_tau('binary_kl_divergence', tau)
    per_position = _divergence(softened(student, tau), softened(teacher, tau), binary=True)
    return tau**2 * valid_mean('binary_kl_divergence', per_position, mask)


def _divergence(student: Tensor, teacher: Tensor, binary: bool) -> Tensor:
    found: Tensor = _Divergence.apply(student, teacher, binary)  # type: ignore[no-untyped-call]
    return found


class _Divergence(torch.autograd.Function):
    """Divergence at each position (N, ...) of logits (N, K, ...).

    Autograd would keep half a dozen tensors of the logits' size for each pair of roles, as much as a backbone's stage
    for the 720 channels of a RetinaNet; the gradient needs the logits alone.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, binary: bool) -> Tensor:
        """Compute the divergence."""
        ctx.save_for_backward(student, teacher)
        ctx.binary = binary
        if binary:
            return _of_outcome(student, teacher) + _of_outcome(-student, -teacher)
        log_student, log_teacher = student.log_softmax(dim=1), teacher.log_softmax(dim=1)
        return F.kl_div(log_student, log_teacher, reduction='none', log_target=True).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The student's probabilities minus the teacher's."""
        student, teacher = (z.sigmoid() if ctx.binary else z.softmax(dim=1) for z in ctx.saved_tensors)
        return student.sub_(teacher).mul_(gradient.unsqueeze(1)), None, None


def _of_outcome(student: Tensor, teacher: Tensor) -> Tensor:
    """What one of the two outcomes of each class adds: ``p_t (log p_t - log p_s)`` with ``p = sigmoid(z)``."""
    # -softplus(-z) is log p without the difference that rounds to 0 for a confident class
    return F.softplus(-student).sub_(F.softplus(-teacher)).mul_(teacher.sigmoid()).sum(dim=1)
