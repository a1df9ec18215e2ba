"""PKD: Pearson correlation of features (Cao et al., NeurIPS 2022, arXiv 2207.02039; methods.md, section 5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmadm.functional.common import channel_statistics, check_pair


def pearson_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of maps whose channels are standardised over the batch (paper, equation 5).

    Equal to ``1 - r`` averaged over channels, ``r`` Pearson's correlation: neither scale nor offset of a channel
    matters, so networks with features of other magnitude can be compared.

    Args:
        student: Features of shape (N, C, ...).
        teacher: The same shape; gets no gradient.

    Returns:
        A scalar in float32; 0 where a channel has fewer than two positions in the whole batch, as on the smallest
        level of a pyramid: there is nothing to correlate.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('pearson_distance', student, teacher)
    if student.numel() < 2 * student.shape[1]:
        return 0 * student.float().sum()
    # float32: squares of half precision features overflow
    rows = [feature.float().reshape(*feature.shape[:2], -1) for feature in (student, teacher)]
    distance: Tensor = _Distance.apply(*rows)  # type: ignore[no-untyped-call]
    return distance


class _Distance(torch.autograd.Function):
    """The distance of features (N, C, P).

    Autograd would keep and go through a dozen tensors of their size, in several times the time; this keeps one.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the distance and its gradient."""
        own, spread = _standardised(student)
        difference = own - _standardised(teacher)[0]
        if ctx.needs_input_grad[0]:
            # d own / d student: a change of a channel's values, less what only makes its spread larger
            degrees = own.shape[0] * own.shape[2] - 1
            wider = (difference * own).sum(dim=2).sum(dim=0) / (degrees * spread.clamp(min=1e-12))
            gradient = torch.addcmul(difference / (spread + 1e-6)[:, None], own, wider[:, None], value=-1.0)
            ctx.save_for_backward(gradient.div_(own.numel()))
        return difference.square_().mean() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Scale the known gradient."""
        return ctx.saved_tensors[0] * gradient, None


def _standardised(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Standardise the channels of features (N, C, P); returns them and the unbiased standard deviations (C,)."""
    mean, deviation = channel_statistics(rows)
    positions = rows.shape[0] * rows.shape[2]
    spread = deviation * (positions / (positions - 1)) ** 0.5
    return (rows - mean[:, None]).div_((spread + 1e-6)[:, None]), spread
