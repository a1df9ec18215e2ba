"""DIST as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mmadm.functional import dist_distance
from mmadm.losses.base import SCORES, DistillationLoss
from mmadm.losses.checks import checked_tau
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext


@MODELS.register_module()
class DIST(DistillationLoss):
    """Relations between classes and between positions (Huang et al., NeurIPS 2022; methods.md, section 5).

    Args:
        tau: Temperature.
        inter: Weight of the relation between the classes of a position.
        intra: Weight of the relation between the positions of a class.

    Raises:
        ConfigError: If tau is not positive.
    """

    kinds: ClassVar[frozenset[Kind]] = SCORES
    instead: ClassVar[str] = 'PearsonDistance at features, KLDivergence at distributions, mmdet.SmoothL1Loss at boxes'

    def __init__(self, tau: float = 1.0, inter: float = 1.0, intra: float = 1.0) -> None:
        super().__init__()
        self.tau = checked_tau('DIST', tau)
        self.inter = inter
        self.intra = intra

    def forward(self, student: Tensor, teacher: Tensor, context: PairContext = PairContext()) -> Tensor:
        """Compare logits (N, K, ...); see :class:`~mmadm.losses.kl.KLDivergence`. Returns a scalar."""
        binary = context.kind is Kind.SIGMOID_SCORES
        return dist_distance(student, teacher, self.tau, self.inter, self.intra, context.mask, binary)
