"""What the losses share: checks of their input, the mean over the positions that count, statistics of channels."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_pair(name: str, student: Tensor, teacher: Tensor, least_dims: int = 2) -> None:
    """Raise ValueError, named after the caller, unless both tensors have one shape of at least so many dimensions."""
    if student.shape != teacher.shape:
        raise ValueError(f'{name}: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must match')
    if student.dim() < least_dims:
        raise ValueError(f'{name}: expected at least {least_dims} dimensions, found {tuple(student.shape)}')


def check_tau(name: str, tau: float) -> None:
    """Raise ValueError, named after the caller, unless the temperature is positive."""
    if tau <= 0:
        raise ValueError(f'{name}: tau must be above 0, found {tau}')


def check_mask(name: str, mask: Tensor | None, feature: Tensor) -> None:
    """Raise ValueError, named after the caller, unless a mask (N, ...) has the positions of a feature (N, C, ...)."""
    positions = feature.shape[:1] + feature.shape[2:]
    if mask is not None and mask.shape != positions:
        raise ValueError(f'{name}: mask {tuple(mask.shape)} must have shape {tuple(positions)}')


def softened(logits: Tensor, tau: float) -> Tensor:
    """Logits divided by the temperature, in float32: in half precision a sum over classes loses digits."""
    # a division by 1 is a pass over memory forwards and another one backwards
    return logits.float() if tau == 1 else logits.float() / tau


def valid_mean(name: str, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the positions that count; an exact 0 with a gradient of 0 if there is none.

    A mean, not a sum per image: otherwise the weight of a loss would depend on the resolution.

    Args:
        name: The caller, for an error.
        values: One figure per position, any shape; may be empty, as where a detector has no region of interest.
        mask: True where a position counts, same shape; all by default.

    Returns:
        A scalar.

    Raises:
        ValueError: If the mask has another shape.
    """
    if mask is None:
        return values.mean() if values.numel() else values.sum()
    if mask.shape != values.shape:
        raise ValueError(f'{name}: mask {tuple(mask.shape)} must have shape {tuple(values.shape)}')
    valid = mask.to(values.dtype)
    return (values * valid).sum() / valid.sum().clamp(min=1.0)


def image_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the positions that count in each image, then over all images; one without any adds an exact 0.

    Args:
        values: One figure per position, shape (N, P); may be empty.
        mask: True where a position counts, same shape; all by default.

    Returns:
        A scalar.
    """
    if mask is None:
        return values.mean() if values.numel() else values.sum()
    valid = mask.to(values.dtype)
    per_image = (values * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1.0)
    return per_image.sum() / max(len(values), 1)


def centred(feature: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | int]:
    """Subtract from each channel its mean over the positions that count in the whole batch.

    A batch-wide statistic takes the positions of all images alike, so an image with more of them weighs more.

    Args:
        feature: Shape (N, C, ...).
        mask: True where a position counts, shape (N, ...); all positions by default.

    Returns:
        The difference of shape (N, C, P) in float32, 0 where no position counts; the mean (C,); how many positions
        count, 1 if none does.
    """
    rows = feature.float().reshape(*feature.shape[:2], math.prod(feature.shape[2:]))
    if mask is None:
        count = max(rows.shape[0] * rows.shape[2], 1)
        mean = rows.sum(dim=2).sum(dim=0) / count
        return rows - mean[:, None], mean, count
    valid = mask.reshape(rows.shape[0], 1, rows.shape[2]).to(rows.dtype)
    number = valid.sum().clamp(min=1.0)
    mean = (rows * valid).sum(dim=2).sum(dim=0) / number
    return (rows - mean[:, None]) * valid, mean, number


def channel_statistics(feature: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and biased standard deviation of each channel over the positions that count in the whole batch.

    Args:
        feature: Shape (N, C, ...).
        mask: True where a position counts, shape (N, ...); all positions by default. Images may have different numbers
            of them: each position weighs the same.

    Returns:
        Two tensors of shape (C,) in float32 without gradient; zeros if no position counts.

    Raises:
        ValueError: If the mask has another shape.
    """
    check_mask('channel_statistics', mask, feature)
    with torch.no_grad():
        difference, mean, count = centred(feature, mask)
        # in two passes, with a sixth of the time that torch.std_mean takes over several dimensions
        length = torch.linalg.vector_norm(difference, dim=2)
        return mean, (length.square().sum(dim=0) / count).sqrt()
