"""Kullback-Leibler divergence between two class distributions (Hinton et al. 2015; methods.md, section 5)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def kl_divergence(student: Tensor, teacher: Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """``tau^2 * KL(softmax(teacher / tau) || softmax(student / tau))``, the mean over the valid positions.

    A mean, not a sum per image: otherwise the weight of the loss would depend on the resolution.

    Args:
        student: Logits of shape (N, K, ...).
        teacher: Logits of the same shape.
        tau: Temperature, above 0.
        mask: True where a position counts, shape (N, ...); all positions by default.

    Returns:
        A scalar in float32; 0 if no position is valid.

    Raises:
        ValueError: If the shapes differ or tau is not positive.
    """
    if student.shape != teacher.shape:
        raise ValueError(f'kl_divergence: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must match')
    if tau <= 0:
        raise ValueError(f'kl_divergence: tau must be above 0, found {tau}')
    # float32: under AMP the sum over classes loses digits in half precision
    log_student = F.log_softmax(student.float() / tau, dim=1)
    log_teacher = F.log_softmax(teacher.float() / tau, dim=1)
    per_position = F.kl_div(log_student, log_teacher, reduction='none', log_target=True).sum(dim=1)
    if mask is None:
        return tau**2 * per_position.mean()
    if mask.shape != per_position.shape:
        raise ValueError(f'kl_divergence: mask {tuple(mask.shape)} must have shape {tuple(per_position.shape)}')
    valid = mask.to(per_position.dtype)
    return tau**2 * (per_position * valid).sum() / valid.sum().clamp(min=1.0)
