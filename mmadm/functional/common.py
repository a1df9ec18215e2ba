"""What the losses share: checks of their input, the mean over valid positions, statistics of channels."""

from __future__ import annotations

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


def channel_statistics(feature: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased standard deviation of each channel over all images and positions.

    Args:
        feature: Shape (N, C, ...).

    Returns:
        Two tensors of shape (C,) in float32 without gradient; zeros if there are no images or positions.
    """
    with torch.no_grad():
        if not feature.numel():
            nothing = feature.new_zeros(feature.shape[1], dtype=torch.float32)
            return nothing, nothing
        rows = feature.float().reshape(*feature.shape[:2], -1)
        mean = rows.mean(dim=2).mean(dim=0)
        # in two passes, with a sixth of the time that torch.std_mean takes over several dimensions
        length = torch.linalg.vector_norm(rows - mean[:, None], dim=2)
        return mean, (length.square().sum(dim=0) / (rows.shape[0] * rows.shape[2])).sqrt()
