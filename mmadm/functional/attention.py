"""Attention maps (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928; methods.md, sections 3 and 5)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import check_mask, check_pair, image_mean


def attention_map(feature: Tensor) -> Tensor:
    """``a(F) = mean_c F^2``: how strongly the channels fire at each position, which no other position changes.

    Args:
        feature: Features of shape (N, C, H, W), or tokens (N, C, L).

    Returns:
        A map of shape (N, 1, H, W), or (N, 1, L), in float32.

    Raises:
        ValueError: If the feature is no map.
    """
    if feature.dim() not in (3, 4):
        raise ValueError(
            f'attention_map: expected a map (N, C, H, W) or tokens (N, C, L), found {tuple(feature.shape)}'
        )
    # float32: squares of half precision features overflow
    return feature.float().square().mean(dim=1, keepdim=True)


def attention_distance(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """``D(x, y)``: mean squared difference of the flattened maps, each image brought to L2 norm 1.

    Args:
        x: Maps of shape (N, ...), such as attention maps (N, 1, H, W).
        y: The same shape.
        mask: True where a position of maps (N, C, ...) counts, shape (N, ...); all positions by default. Norm and mean
            are those of each image's own positions; an image without any adds 0 to the mean over images.

    Returns:
        A scalar in float32; 0 if the input is empty.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('attention_distance', x, y)
    check_mask('attention_distance', mask, x)
    flat_x, flat_y, valid = x.float().flatten(1), y.float().flatten(1), None
    if mask is not None:
        valid = mask.unsqueeze(1).expand_as(x).flatten(1)
        flat_x, flat_y = flat_x * valid, flat_y * valid
    difference = F.normalize(flat_x, dim=1) - F.normalize(flat_y, dim=1)
    return image_mean(difference.square(), valid)
