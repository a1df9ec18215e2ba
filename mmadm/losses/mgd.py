"""Masked generative distillation as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from mmadm.functional import generation_distance
from mmadm.losses.base import DistillationLoss
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext
from mmadm.utils.errors import ConfigError


@MODELS.register_module()
class MaskedGeneration(DistillationLoss):
    """MGD: make the teacher's features from the learner's masked map (Yang et al., ECCV 2022; methods.md, section 5).

    Published for detectors: mask ratio 0.65 and weight 2e-5 with one stage, 0.45 and 5e-7 with two.

    Args:
        mask_ratio: Share of positions that are masked, in [0, 1).

    Raises:
        ConfigError: If the share is out of range.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.MAP})
    instead: ClassVar[str] = (
        'KLDivergence at class scores or distributions, mmdet.SmoothL1Loss at boxes, HintMSE at tokens or vectors'
    )

    def __init__(self, mask_ratio: float = 0.65) -> None:
        super().__init__()
        if not 0 <= mask_ratio < 1:
            raise ConfigError(f'MaskedGeneration.mask_ratio={mask_ratio!r}: must be at least 0 and below 1')
        self.mask_ratio = mask_ratio

    def connector(self, in_channels: int, out_channels: int) -> nn.Module:
        """Build the block that masks the learner's map and makes the teacher's from the rest."""
        options = dict(in_channels=in_channels, out_channels=out_channels, mask_ratio=self.mask_ratio)
        # by name: losses stand below modules and import none of them
        block: nn.Module = MODELS.build(dict(type='mmadm.GenerationBlock', **options))
        return block

    def forward(self, student: Tensor, teacher: Tensor, context: PairContext = PairContext()) -> Tensor:
        """Compare what the connector generated with the teacher's features, (N, C, H, W). Returns a scalar."""
        return generation_distance(student, teacher, context.mask)
