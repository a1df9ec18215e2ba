"""Feature fusion and self-distillation (Li et al., arXiv 2103.14473; methods.md, section 3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.attention import attention_map
from mmadm.functional.common import check_mask, check_pair, image_mean


def _away(attention: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """How flat attention (N, P), as unit vectors ``u`` with norms ``n``, turns away from where it is high.

    Positions above the lower third move by ``n - 2 u``, the one on the border by half of that, those below not at all.
    Where positions do not count, the attention is 0 already.

    Returns:
        The moves (N, P), the unit vectors (N, P) and the norms (N, 1).
    """
    norm = attention.norm(dim=1, keepdim=True)
    unit = F.normalize(attention, dim=1)
    if mask is None:
        border = unit.kthvalue(max(1, unit.shape[1] // 3), dim=1, keepdim=True).values
    else:
        ascending = unit.masked_fill(~mask, torch.inf).sort(dim=1).values
        border = ascending.gather(1, (mask.sum(dim=1, keepdim=True) // 3).clamp(min=1) - 1)
    move = (norm / 2 - unit) * (1 + torch.sign(unit - border))
    return move if mask is None else move * mask, unit, norm


def attention_diversity(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """How far a learner's attention is from a peer's attention turned away from where it is high.

    Args:
        x: Attention maps of the learner, shape (N, 1, H, W).
        y: Attention maps of the peer, same shape.
        mask: True where a position counts, shape (N, H, W); all positions by default. Each image is compared on its
            own positions; one without any adds 0 to the mean over images.

    Returns:
        A scalar in float32: the mean squared difference of the normalised ``x`` and the turned ``y``.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('attention_diversity', x, y, least_dims=4)
    check_mask('attention_diversity', mask, x)
    own, other, valid = x.float().flatten(1), y.float().flatten(1), None
    if mask is not None:
        valid = mask.flatten(1)
        own, other = own * valid, other * valid
    move, unit, _ = _away(other, valid)
    return image_mean((F.normalize(own, dim=1) - (unit + move)).square(), valid)


def diversity_target(feature: Tensor, mask: Tensor | None = None) -> Tensor:
    """Feature map whose attention is turned away from where that of ``feature`` is high.

    Args:
        feature: Shape (N, C, H, W).
        mask: True where a position counts, shape (N, H, W); all positions by default. The others stay as they are.

    Returns:
        The same shape in float32; all channels of a position are moved by the same amount.

    Raises:
        ValueError: If the mask has another shape.
    """
    check_mask('diversity_target', mask, feature)
    feature = feature.float()
    attention = attention_map(feature)
    valid = None if mask is None else mask.flatten(1)
    flat = attention.flatten(1)
    move, _, norm = _away(flat if valid is None else flat * valid, valid)
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
