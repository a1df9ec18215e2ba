"""FitNet's hint as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mmadm.functional import mean_squared_distance
from mmadm.losses.base import DistillationLoss
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext


@MODELS.register_module()
class HintMSE(DistillationLoss):
    """FitNet: the mean squared difference of features (Romero et al. 2015, arXiv 1412.6550; methods.md, section 5)."""

    kinds: ClassVar[frozenset[Kind]] = frozenset(Kind)

    def forward(self, student: Tensor, teacher: Tensor, context: PairContext = PairContext()) -> Tensor:
        """Compare features of one shape. Returns a scalar in float32, 0 if they are empty."""
        return mean_squared_distance(student, teacher, context.mask)
