"""Let a role pause for one iteration after its forward pass has run already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mmadm.structures import is_loss


class BuffersBefore:
    """Copies of what a training forward pass changes in some roles: BatchNorm statistics and other buffers.

    Args:
        roles: All networks.
        names: Roles that may pause.
    """

    def __init__(self, roles: nn.ModuleDict, names: Iterable[str]) -> None:
        self._roles = roles
        self._copies = {name: [buffer.clone() for buffer in roles[name].buffers()] for name in names}

    def undo_paused(self, losses: dict[str, Tensor], pauses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put the buffers of the roles that pause back, and drop their losses.

        Args:
            losses: All losses and monitors by ``<role>.<name>``.
            pauses: Whether a role pauses, by role.

        Returns:
            What is left. Without a loss there is no gradient, and optimisers leave such parameters and their momentum
            alone.
        """
        for role, paused in pauses.items():
            if not paused:  # a decision of the host, for which it waits
                continue
            with torch.no_grad():
                for buffer, copy in zip(self._roles[role].buffers(), self._copies[role], strict=True):
                    buffer.copy_(copy)
            losses = {k: value for k, value in losses.items() if not (k.startswith(f'{role}.') and is_loss(k))}
        return losses
