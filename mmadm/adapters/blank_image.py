"""The blank image that the dry run feeds a network, and its data sample."""

from __future__ import annotations

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

#: Sides of the squares of pixels that a stem may fold into channels before its first convolution
FOLDED = (2, 4)


def input_channels(model: nn.Module) -> int:
    """How many channels a network's images have: 3 for most, 1 for grey ones, 4 with depth, more for multispectral.

    The first convolution says it, unless pixels were folded into its channels (YOLOX); where a network begins without
    one, the means of its preprocessor do.

    Args:
        model: A stock model, with a ``data_preprocessor`` if it has one.
    """
    means = getattr(getattr(model, 'data_preprocessor', None), 'mean', None)
    # a single mean may stand for all channels
    stated = len(means) if means is not None and len(means) > 1 else None
    folding = False
    for part in getattr(model, 'backbone', model).modules():  # a parent comes before its children
        if isinstance(part, nn.Conv2d):
            if stated and part.in_channels in [stated * side**2 for side in FOLDED]:
                return stated
            return part.in_channels // 4 if folding else part.in_channels
        folding = folding or type(part).__name__ == 'Focus'
    return stated or 3


def blank_image(model: nn.Module, size: tuple[int, int]) -> Tensor:
    """A black image (1, C, H, W) of the channels C that a network takes.

    Args:
        model: See :func:`input_channels`.
        size: Height and width in pixels.
    """
    return torch.zeros(1, input_channels(model), *size)


def blank_samples(count: int, size: tuple[int, int]) -> list[BaseDataElement]:
    """Data samples of images (height, width) without labels."""
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    return [BaseDataElement(metainfo=meta) for _ in range(count)]
