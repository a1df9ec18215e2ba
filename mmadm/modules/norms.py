"""Batch normalisation of connectors over what is image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def normalised(norm: nn.Module, feature: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Tensor:
    """Normalise maps by the statistics of what is image alone.

    Args:
        norm: A batch normalisation.
        feature: Maps (N, C, H, W).
        sizes: Rows and columns of each image, at the top left; by default all positions are image.

    Returns:
        The same shape, 0 outside of the images: as if each ended where it does.
    """
    if sizes is None:
        return norm(feature)
    parts = [image[:, :rows, :columns].flatten(1) for image, (rows, columns) in zip(feature, sizes, strict=True)]
    values = norm(torch.cat(parts, dim=1)[None, :, :, None])[0, :, :, 0]
    height, width = feature.shape[2:]
    images = zip(values.split([part.shape[1] for part in parts], dim=1), sizes, strict=True)
    return torch.stack(
        [
            F.pad(part.unflatten(1, (rows, columns)), (0, width - columns, 0, height - rows))
            for part, (rows, columns) in images
        ]
    )


class Projection(nn.Module):
    """Bring a map to a teacher's channels: 1x1 convolution, batch normalisation, ReLU, 1x1 convolution, without bias.

    Args:
        in_channels: Channels of the learner's map.
        out_channels: Channels of the teacher's.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.project = nn.Conv2d(out_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, feature: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """Map (N, C, H, W) to (N, D, H, W); ``sizes`` as of :func:`normalised`."""
        return self.project(normalised(self.norm, self.expand(feature), sizes).relu())
