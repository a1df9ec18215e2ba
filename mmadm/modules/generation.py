"""The generation block of masked generative distillation (Yang et al., ECCV 2022, arXiv 2205.01529; methods.md, 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmadm.modules.connectors import Connector
from mmadm.registry import MODELS


@MODELS.register_module()
class GenerationBlock(nn.Module):
    """Mask a learner's map at random and make the teacher's features from what is left.

    A 1x1 convolution where channels differ, the mask (training mode only), then conv3x3, ReLU, conv3x3. The mask is
    drawn from torch's default generator of the map's device, afresh in each forward, one for each image; all channels
    share it.

    Args:
        in_channels: Channels of the learner's tap.
        out_channels: Channels of the teacher's tap.
        mask_ratio: Share of positions that are masked, in [0, 1).
    """

    def __init__(self, in_channels: int, out_channels: int, mask_ratio: float) -> None:
        super().__init__()
        self.mask_ratio = mask_ratio
        self.align = nn.Identity() if in_channels == out_channels else Connector(in_channels, out_channels)
        self.generate = nn.Sequential(
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
        )

    def forward(self, feature: Tensor) -> Tensor:
        """Turn a learner's map (N, C, H, W) into one of the teacher's channels (N, D, H, W)."""
        aligned = self.align(feature)
        if self.training:
            images, _, height, width = aligned.shape
            kept = torch.rand(images, 1, height, width, device=aligned.device) >= self.mask_ratio
            aligned = aligned * kept
        return self.generate(aligned)
