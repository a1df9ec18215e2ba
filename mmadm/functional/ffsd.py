"""Feature fusion and self-distillation (Li et al., arXiv 2103.14473; methods.md, section 3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.attention import attention_map
from mmadm.functional.common import check_pair


def _away(attention: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How flat attention (N, P), as unit vectors ``u`` with norms ``n``, turns away from where it is high.

    Positions above the lower third move by ``n - 2 u``, the one on the border by half of that, those below not at all.

    Returns:
        The moves (N, P), the unit vectors (N, P) and the norms (N, 1).
    """
    norm = attention.norm(dim=1, keepdim=True)
    unit = F.normalize(attention, dim=1)
    border = unit.kthvalue(max(1, unit.shape[1] // 3), dim=1, keepdim=True).values
    return (norm / 2 - unit) * (1 + torch.sign(unit - border)), unit, norm


def attention_diversity(x: Tensor, y: Tensor) -> Tensor:
    """How far a learner's attention is from a peer's attention turned away from where it is high.

    Args:
        x: Attention maps of the learner, shape (N, 1, H, W).
        y: Attention maps of the peer, same shape.

    Returns:
        A scalar in float32: the mean squared difference of the normalised ``x`` and the turned ``y``.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('attention_diversity', x, y, least_dims=4)
    move, unit, _ = _away(y.float().flatten(1))
    return (F.normalize(x.float().flatten(1), dim=1) - (unit + move)).square().mean()


def diversity_target(feature: Tensor) -> Tensor:
    """Feature map whose attention is turned away from where that of ``feature`` is high.

    Args:
        feature: Shape (N, C, H, W).

    Returns:
        The same shape in float32; all channels of a position are moved by the same amount.
    """
    feature = feature.float()
    attention = attention_map(feature)
    move, _, norm = _away(attention.flatten(1))
    return feature + (move * norm / feature.shape[1]).reshape(attention.shape)


def warmup_ramp(coefficient: float, step: float, length: float) -> float:
    """``coefficient * exp(-5 (1 - step / length)^2)`` until ``length``, then the coefficient.

    Args:
        coefficient: Final value.
        step: Iterations (or epochs) so far.
        length: Iterations (or epochs) until the final value.
    """
    if step >= length:
        return coefficient
    return coefficient * math.exp(-5 * (1 - step / length) ** 2)
