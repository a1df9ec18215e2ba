"""Let a role pause for one iteration after its forward pass has run already."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmadm.distillers import Distiller
from mmadm.utils.errors import ConfigError


def check_one_decides(distillers: Iterable[Distiller]) -> None:
    """Raise ConfigError if two of the distillers may pause one role, of whose decisions one would be lost.

    Args:
        distillers: In the order of ``model.distillers``.
    """
    deciding: dict[str, int] = {}
    for index, distiller in enumerate(distillers):
        for role in distiller.may_pause if distiller.weighted else ():
            first = deciding.setdefault(role, index)
            if first != index:
                raise ConfigError(
                    f'model.distillers[{first}] and model.distillers[{index}]: both may pause role {role!r}, but only '
                    'one can decide; remove one, set its weight to 0 or give it another teacher'
                )


def buffer_copies(role: nn.Module) -> list[Tensor]:
    """Copies of what a training forward pass changes: BatchNorm statistics and other buffers."""
    return [buffer.clone() for buffer in role.buffers()]


def restore_buffers(role: nn.Module, copies: list[Tensor]) -> None:
    """Put the copies of :func:`buffer_copies` back."""
    with torch.no_grad():
        for buffer, copy in zip(role.buffers(), copies, strict=True):
            buffer.copy_(copy)
