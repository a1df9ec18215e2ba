"""Fuse the features of several students (FFSD, arXiv 2103.14473; methods.md, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class FeatureFusion(nn.Module):
    """Concatenate, depthwise 3x3 convolution, BN, ReLU, 1x1 convolution, BN, ReLU.

    Args:
        channels: Channels of each student's feature.
        students: Number of students.
    """

    def __init__(self, channels: int, students: int) -> None:
        super().__init__()
        joined = channels * students
        self.fuse = nn.Sequential(
            nn.Conv2d(joined, joined, kernel_size=3, padding=1, groups=joined, bias=False),
            nn.BatchNorm2d(joined),
            nn.ReLU(inplace=True),
            nn.Conv2d(joined, channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Fuse the students' features, each (N, C, H, W), into one of the same shape."""
        return self.fuse(torch.cat(list(features), dim=1))


class LeaderTransform(nn.Sequential):
    """Bring the leader's feature (N, C, H, W) to the channels of all students together: depthwise 3x3, then 1x1.

    Args:
        channels: Channels of one feature.
        students: Number of students.
    """

    def __init__(self, channels: int, students: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels * students, kernel_size=1, bias=False),
        )


class SelfDistillation(nn.Module):
    """A chain that makes a network's shallower features from its last one, one step for each, deepest first.

    A step enlarges by a stride-2 transposed convolution where the shallower map is larger, by a power of two; where
    strides are equal, as in dilated networks, a 3x3 convolution takes its place. Then BN and ReLU.

    Args:
        last: Channels and side of the last feature.
        shallow: Channels and side of each shallower feature, deepest first.

    Raises:
        ValueError: If a shallower feature is smaller than the one before it, or larger by another factor.
    """

    def __init__(self, last: tuple[int, int], shallow: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        channels, side = last
        for wanted, wanted_side in shallow:
            step: list[nn.Module] = []
            while side < wanted_side:
                step += _unit(nn.ConvTranspose2d(channels, wanted, 4, stride=2, padding=1, bias=False), wanted)
                channels, side = wanted, 2 * side
            if side != wanted_side:
                raise ValueError(f'a feature of side {wanted_side} cannot be made from one of {side} by factors of two')
            if not step:
                step = _unit(nn.Conv2d(channels, wanted, kernel_size=3, padding=1, bias=False), wanted)
                channels = wanted
            self.steps.append(nn.Sequential(*step))

    def forward(self, feature: Tensor) -> list[Tensor]:
        """Make the shallower features, deepest first, from the last one (N, C, H, W)."""
        return self._run(feature)

    def targets(self, feature: Tensor) -> list[Tensor]:
        """The same with the statistics that training has gathered, which stay as they are: what others learn from."""
        return self._run(feature, gathered=True)

    def _run(self, feature: Tensor, gathered: bool = False) -> list[Tensor]:
        made = []
        steps: Iterable[Any] = self.steps
        for step in steps:
            for part in step:
                if gathered and isinstance(part, _BatchNorm):
                    feature = F.batch_norm(
                        feature, part.running_mean, part.running_var, part.weight, part.bias, eps=part.eps
                    )
                else:
                    feature = part(feature)
            made.append(feature)
        return made


def _unit(convolution: nn.Module, channels: int) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
