"""Attention transfer as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from mmadm.functional import attention_distance, attention_map
from mmadm.losses.base import WITH_POSITIONS, DistillationLoss
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext


@MODELS.register_module()
class AttentionTransfer(DistillationLoss):
    """AT: the mean square over channels at each position (Zagoruyko and Komodakis 2017; methods.md, section 5)."""

    kinds: ClassVar[frozenset[Kind]] = WITH_POSITIONS
    instead: ClassVar[str] = (
        'KLDivergence at class scores or distributions, mmdet.SmoothL1Loss at boxes, HintMSE at vectors'
    )

    def connector(self, in_channels: int, out_channels: int) -> nn.Module:
        """Change nothing: the maps have one channel whatever the features have."""
        return nn.Identity()

    def forward(self, student: Tensor, teacher: Tensor, context: PairContext = PairContext()) -> Tensor:
        """Compare features (N, C, H, W) and (N, D, H, W), or tokens. Returns a scalar."""
        return attention_distance(attention_map(student), attention_map(teacher), context.mask)
