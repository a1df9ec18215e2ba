"""The fusion of levels in ReviewKD (Chen et al., CVPR 2021, arXiv 2104.09044)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadm.modules.norms import normalised

Sizes = Sequence[tuple[int, int]]


class ReviewFusion(nn.Module):
    """Make the teacher's levels from the student's: each from its own level and all deeper ones.

    From the deepest level up: a 1x1 convolution and BN; where there is a deeper level, two sigmoid gates weigh this map
    and the deeper fused one; the result is the next fused map, and by a 3x3 convolution and BN the output of the level.

    Args:
        in_channels: Channels of the student's levels, from the finest to the coarsest.
        out_channels: Channels of the teacher's levels.
        mid_channels: Channels in which levels are fused; 256 in the published detectors.

    Raises:
        ValueError: If the numbers of levels differ.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int], mid_channels: int) -> None:
        super().__init__()
        if len(in_channels) != len(out_channels):
            raise ValueError(f'ReviewFusion: {len(in_channels)} levels cannot make {len(out_channels)}')
        self.levels = nn.ModuleList(
            _Level(own, wanted, mid_channels, deepest=level == len(in_channels) - 1)
            for level, (own, wanted) in enumerate(zip(in_channels, out_channels, strict=True))
        )

    def forward(self, features: Sequence[Tensor], sizes: Sequence[Sizes | None] | None = None) -> list[Tensor]:
        """Turn the student's levels into maps of their own sizes and of the teacher's channels.

        Args:
            features: Maps (N, C, h, w) from the finest to the coarsest.
            sizes: Of each level the rows and columns of each image, see :func:`~mmadm.modules.norms.normalised`.

        Raises:
            ValueError: If there are more or fewer levels than the fusion was made for.
        """
        if len(features) != len(self.levels):
            raise ValueError(f'ReviewFusion: was made for {len(self.levels)} levels, found {len(features)}')
        outputs, fused = [], None
        levels: Iterable[Any] = self.levels
        known = [None] * len(features) if sizes is None else sizes
        for level, feature, images in reversed(list(zip(levels, features, known, strict=True))):
            fused = level.fuse(feature, fused, images)
            outputs.append(normalised(level.generate_norm, level.generate(fused), images))
        return outputs[::-1]


class _Level(nn.Module):
    def __init__(self, own: int, wanted: int, mid: int, deepest: bool) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(own, mid, kernel_size=1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(mid)
        self.gate = None if deepest else nn.Conv2d(2 * mid, 2, kernel_size=1)
        self.generate = nn.Conv2d(mid, wanted, kernel_size=3, padding=1, bias=False)
        self.generate_norm = nn.BatchNorm2d(wanted)
        for convolution in (self.reduce, self.generate):
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def fuse(self, feature: Tensor, deeper: Tensor | None, sizes: Sizes | None) -> Tensor:
        """Weigh a level and the fused map of the deeper ones at each position."""
        own = normalised(self.reduce_norm, self.reduce(feature), sizes)
        if deeper is None or self.gate is None:
            return own
        deeper = F.interpolate(deeper, size=own.shape[2:], mode='nearest')
        first, second = self.gate(torch.cat([own, deeper], dim=1)).sigmoid().chunk(2, dim=1)
        return first * own + second * deeper
