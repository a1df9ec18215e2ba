"""Channel-wise knowledge distillation (Shu et al., ICCV 2021, arXiv 2011.13256; methods.md, section 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import check_mask, check_pair, check_tau, softened, valid_mean


def channel_wise_divergence(student: Tensor, teacher: Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """``tau^2 * KL`` between distributions over the positions of each channel, the mean over images and channels.

    Each channel of a map (paper, equation 4) is a softmax over all positions: where it fires, not how strongly.

    Args:
        student: Features or logits of shape (N, C, H, W).
        teacher: The same shape.
        tau: Temperature, above 0.
        mask: True where a position counts, shape (N, H, W); all positions by default. Each image has a distribution
            over its own positions; one without any adds 0 to the mean.

    Returns:
        A scalar in float32; 0 if the input is empty.

    Raises:
        ValueError: If the shapes differ, there are no positions, or tau is not positive.
    """
    check_pair('channel_wise_divergence', student, teacher, least_dims=3)
    check_tau('channel_wise_divergence', tau)
    check_mask('channel_wise_divergence', mask, student)
    log_student, log_teacher = (_over_positions(softened(x, tau), mask) for x in (student, teacher))
    per_channel = F.kl_div(log_student, log_teacher, reduction='none', log_target=True).sum(dim=2)
    return tau**2 * valid_mean('channel_wise_divergence', per_channel)


def _over_positions(scaled: Tensor, mask: Tensor | None) -> Tensor:
    """Log-probabilities (N, C, P) of a map's positions."""
    rows = scaled.flatten(2)
    if mask is not None:
        # finite, half of the least: minus infinity would make the difference of two such positions NaN
        rows = rows.masked_fill(~mask.flatten(1).unsqueeze(1), torch.finfo(rows.dtype).min / 2)
    return F.log_softmax(rows, dim=2)
