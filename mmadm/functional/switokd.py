"""Switchable online distillation (Qian et al., ECCV 2022, arXiv 2209.04996; methods.md, section 5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import check_pair, check_tau, valid_mean


class SwitchThreshold(NamedTuple):
    """What decides whether the teacher pauses; scalars without gradient.

    Attributes:
        gap: ``G``, mean L1 distance between the two predictions.
        epsilon: ``exp(-t / (s + t))`` with the L1 distances s and t of student and teacher from the labels.
        delta: ``s - epsilon * t``.
        expert: Whether the teacher pauses: ``G > delta`` and ``t < s``.
    """

    gap: Tensor
    epsilon: Tensor
    delta: Tensor
    expert: Tensor


def switch_from_distances(gap: Tensor, student: Tensor, teacher: Tensor) -> SwitchThreshold:
    """Decide from the three distances; see :class:`SwitchThreshold`.

    Args:
        gap: Distance between student and teacher.
        student: Distance between student and labels.
        teacher: Distance between teacher and labels.
    """
    epsilon = torch.exp(-teacher / (student + teacher).clamp(min=torch.finfo(teacher.dtype).tiny))
    delta = student - epsilon * teacher
    return SwitchThreshold(gap, epsilon, delta, (gap > delta) & (teacher < student))


def switch_distances(
    student: Tensor, teacher: Tensor, labels: Tensor, tau: float = 1.0, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """L1 distances between predictions and labels, summed over classes, the mean over valid positions.

    Args:
        student: Logits of shape (N, K, ...).
        teacher: Logits of the same shape.
        labels: Class ids (N, ...), or targets between 0 and 1 of the logits' shape for heads with a sigmoid per class.
        tau: Temperature.
        mask: True where a position counts, shape (N, ...).

    Returns:
        ``G = |p_s - p_t|``, ``s = |p_s - y|`` and ``t = |p_t - y|``, without gradient.

    Raises:
        ValueError: If shapes differ or tau is not positive.
    """
    check_pair('switch_distances', student, teacher)
    check_tau('switch_distances', tau)
    with torch.no_grad():
        if labels.shape == student.shape:
            p_student, p_teacher = ((z.float() / tau).sigmoid() for z in (student, teacher))
            truth = labels.float()
        else:
            p_student, p_teacher = ((z.float() / tau).softmax(dim=1) for z in (student, teacher))
            known = labels.clamp(0, student.shape[1] - 1)
            truth = F.one_hot(known, student.shape[1]).movedim(-1, 1).to(p_student)
        pairs = ((p_student, p_teacher), (p_student, truth), (p_teacher, truth))
        gap, s, t = (valid_mean('switch_distances', (a - b).abs().sum(dim=1), mask) for a, b in pairs)
    return gap, s, t


def switch_threshold(
    student: Tensor, teacher: Tensor, labels: Tensor, tau: float = 1.0, mask: Tensor | None = None
) -> SwitchThreshold:
    """Return gap, epsilon, delta and the decision; see :func:`switch_distances` for the arguments."""
    return switch_from_distances(*switch_distances(student, teacher, labels, tau, mask))
