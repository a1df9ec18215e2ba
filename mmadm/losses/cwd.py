"""Channel-wise divergence as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mmadm.functional import channel_wise_divergence
from mmadm.losses.base import SCORES, WITH_POSITIONS, DistillationLoss
from mmadm.losses.checks import checked_tau
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext


@MODELS.register_module()
class ChannelWiseDivergence(DistillationLoss):
    """CWD: where each channel fires (Shu et al., ICCV 2021; methods.md, section 5).

    Published weights: 5 on segmentation logits, 10 per level on a detector's neck, both with tau 1.

    Args:
        tau: Temperature.

    Raises:
        ConfigError: If tau is not positive.
    """

    kinds: ClassVar[frozenset[Kind]] = WITH_POSITIONS | SCORES
    instead: ClassVar[str] = 'mmdet.SmoothL1Loss at boxes, KLDivergence at distributions, HintMSE at vectors'

    def __init__(self, tau: float = 1.0) -> None:
        super().__init__()
        self.tau = checked_tau('ChannelWiseDivergence', tau)

    def forward(self, student: Tensor, teacher: Tensor, context: PairContext = PairContext()) -> Tensor:
        """Compare maps (N, C, H, W). Returns a scalar."""
        return channel_wise_divergence(student, teacher, self.tau, context.mask)
