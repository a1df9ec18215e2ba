"""Decoupled knowledge distillation (Zhao et al., CVPR 2022, arXiv 2203.08679; methods.md, section 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import check_pair, check_tau, softened, valid_mean


def decoupled_kl(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    tau: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
    mask: Tensor | None = None,
) -> Tensor:
    """``tau^2 * (alpha * TCKD + beta * NCKD)``, the mean over the valid positions (paper, equation 7).

    TCKD compares (true class, all others) as two outcomes, NCKD the distributions over the classes that are not true.
    KD is the sum with beta equal to the teacher's probability of all others, which mutes what a sure teacher knows.

    Args:
        student: Logits of shape (N, K, ...), K at least 2.
        teacher: The same shape.
        labels: True classes of shape (N, ...). A position whose label is no class (the ignore label) does not count.
        tau: Temperature, above 0.
        alpha: Weight of TCKD.
        beta: Weight of NCKD.
        mask: True where a position counts, shape (N, ...); all positions by default.

    Returns:
        A scalar in float32; 0 if no position is valid or the input is empty.

    Raises:
        ValueError: If the shapes differ, there is one class only, or tau is not positive.
    """
    check_pair('decoupled_kl', student, teacher)
    check_tau('decoupled_kl', tau)
    classes = student.shape[1]
    if classes < 2:
        raise ValueError(f'decoupled_kl: needs at least 2 classes, found logits {tuple(student.shape)}')
    if labels.shape != student.shape[:1] + student.shape[2:]:
        raise ValueError(f'decoupled_kl: labels {tuple(labels.shape)} do not fit logits {tuple(student.shape)}')
    valid = (labels >= 0) & (labels < classes)
    true = labels.where(valid, 0).unsqueeze(1)
    target_s, others_s = _decoupled(student, true, tau)
    target_t, others_t = _decoupled(teacher, true, tau)
    tckd = F.kl_div(target_s, target_t, reduction='none', log_target=True).sum(dim=1)
    nckd = F.kl_div(others_s, others_t, reduction='none', log_target=True).sum(dim=1)
    if mask is not None:
        if mask.shape != labels.shape:
            raise ValueError(f'decoupled_kl: mask {tuple(mask.shape)} must have shape {tuple(labels.shape)}')
        valid = valid & mask
    return tau**2 * valid_mean('decoupled_kl', alpha * tckd + beta * nckd, valid)


def _decoupled(logits: Tensor, true: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (true, not true), (N, 2, ...), and of each other class given not true, (N, K, ...)."""
    scaled = softened(logits, tau)
    others = scaled.scatter(1, true, -torch.inf)
    target = torch.cat([scaled.gather(1, true), others.logsumexp(dim=1, keepdim=True)], dim=1)
    # the true class is no outcome among the others: equal entries in student and teacher add nothing
    return target.log_softmax(dim=1), others.log_softmax(dim=1).scatter(1, true, 0.0)
