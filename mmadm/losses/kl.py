"""The KL divergence as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mmadm.functional import binary_kl_divergence, kl_divergence
from mmadm.losses.base import DistillationLoss
from mmadm.losses.checks import checked_tau
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext


@MODELS.register_module()
class KLDivergence(DistillationLoss):
    """``tau^2 KL(p_teacher || p_student)`` per position (Hinton et al. 2015; methods.md, section 5).

    Args:
        tau: Temperature.

    Raises:
        ConfigError: If tau is not positive.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset(Kind) - {Kind.BOXES}
    instead: ClassVar[str] = 'mmdet.SmoothL1Loss'

    def __init__(self, tau: float = 4.0) -> None:
        super().__init__()
        self.tau = checked_tau('KLDivergence', tau)

    def forward(self, student: Tensor, teacher: Tensor, context: PairContext = PairContext()) -> Tensor:
        """Compare logits (N, K, ...): by one softmax over K, or each class by itself where the tap's kind says so."""
        divergence = binary_kl_divergence if context.kind is Kind.SIGMOID_SCORES else kl_divergence
        return divergence(student, teacher, self.tau, context.mask)
