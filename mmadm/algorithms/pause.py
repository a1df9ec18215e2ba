"""Let a role pause for one iteration after its forward pass has run already."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def buffer_copies(role: nn.Module) -> list[Tensor]:
    """Copies of what a training forward pass changes: BatchNorm statistics and other buffers."""
    return [buffer.clone() for buffer in role.buffers()]


def restore_buffers(role: nn.Module, copies: list[Tensor]) -> None:
    """Put the copies of :func:`buffer_copies` back."""
    with torch.no_grad():
        for buffer, copy in zip(role.buffers(), copies, strict=True):
            buffer.copy_(copy)
