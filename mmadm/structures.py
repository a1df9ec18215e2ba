"""What travels between the adapters and the distillers."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class RoleOutput:
    """What one role produced for one batch.

    Attributes:
        losses: Task losses by stock name, such as ``decode.loss_ce``; empty for a frozen role.
        taps: Tensors by tap name; always a list, because a module may return several levels or run several times.
        labels: Class ids of shape (N, H, W) at the resolution of the padded input, or None where a task has none.
        ignore_index: The label value that marks a position without a class.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    taps: dict[str, list[Tensor]] = field(default_factory=dict)
    labels: Tensor | None = None
    ignore_index: int = 255
