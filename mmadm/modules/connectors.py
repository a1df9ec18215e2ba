"""Make a learner's tap comparable with a source's tap."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmadm.registry import MODELS


@MODELS.register_module()
class Connector(nn.Conv2d):
    """A 1x1 convolution without bias that maps a learner's channels to the source's (methods.md, section 1).

    Args:
        in_channels: Channels of the learner's tap.
        out_channels: Channels of the source's tap.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, feature: Tensor) -> Tensor:
        """Map a map (N, C, h, w), tokens (N, C, L) or vectors (n, C)."""
        if feature.dim() == 4:
            return super().forward(feature)
        missing = 4 - feature.dim()
        return super().forward(feature[(..., *[None] * missing)]).flatten(feature.dim() - 1)


def resize_like(feature: Tensor, reference: Tensor) -> Tensor:
    """Resize a map (N, C, h, w) bilinearly to the height and width of a reference (N, D, H, W); vectors stay."""
    if feature.shape[2:] == reference.shape[2:]:
        return feature
    return F.interpolate(feature, size=reference.shape[2:], mode='bilinear', align_corners=False)
