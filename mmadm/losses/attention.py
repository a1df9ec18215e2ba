"""Attention transfer as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from mmadm.functional import attention_distance, attention_map
from mmadm.registry import MODELS


@MODELS.register_module()
class AttentionTransfer(nn.Module):
    """AT: the mean square over channels at each position (Zagoruyko and Komodakis 2017; methods.md, section 5)."""

    needs: ClassVar[tuple[str, ...]] = ()

    def connector(self, in_channels: int, out_channels: int) -> nn.Module:
        """Change nothing: the maps have one channel whatever the features have."""
        return nn.Identity()

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare features (N, C, H, W) and (N, D, H, W). Returns a scalar."""
        return attention_distance(attention_map(student), attention_map(teacher))
