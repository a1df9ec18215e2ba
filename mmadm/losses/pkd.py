"""The Pearson distance of PKD as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from mmadm.functional import pearson_distance
from mmadm.registry import MODELS


@MODELS.register_module()
class PearsonDistance(nn.Module):
    """PKD: features standardised per channel (Cao et al., NeurIPS 2022; methods.md, section 5).

    Published weights on a detector's neck: 10 per level for one stage, 6 for two.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare features (N, C, ...). Returns a scalar."""
        return pearson_distance(student, teacher)
