"""The Pearson distance of PKD as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mmadm.functional import pearson_distance
from mmadm.losses.base import FEATURES, SCORES, DistillationLoss
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext


@MODELS.register_module()
class PearsonDistance(DistillationLoss):
    """PKD: features standardised per channel (Cao et al., NeurIPS 2022; methods.md, section 5).

    Published weights on a detector's neck: 10 per level for one stage, 6 for two.
    """

    kinds: ClassVar[frozenset[Kind]] = FEATURES | SCORES
    instead: ClassVar[str] = 'KLDivergence at distributions, mmdet.SmoothL1Loss at boxes'

    def forward(self, student: Tensor, teacher: Tensor, context: PairContext = PairContext()) -> Tensor:
        """Compare features (N, C, ...). Returns a scalar."""
        return pearson_distance(student, teacher, context.mask)
