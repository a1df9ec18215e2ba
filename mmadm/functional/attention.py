"""Attention maps (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928; methods.md, sections 3 and 5)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.common import check_pair, valid_mean


def attention_map(feature: Tensor) -> Tensor:
    """``a(F) = mean_c F^2``: how strongly the channels fire at each position.

    Args:
        feature: Features of shape (N, C, H, W).

    Returns:
        A map of shape (N, 1, H, W) in float32.

    Raises:
        ValueError: If the feature is no map.
    """
    if feature.dim() != 4:
        raise ValueError(f'attention_map: expected a map (N, C, H, W), found {tuple(feature.shape)}')
    # float32: squares of half precision features overflow
    return feature.float().square().mean(dim=1, keepdim=True)


def attention_distance(x: Tensor, y: Tensor) -> Tensor:
    """``D(x, y)``: mean squared difference of the flattened maps, each image brought to L2 norm 1.

    Args:
        x: Maps of shape (N, ...), such as attention maps (N, 1, H, W).
        y: The same shape.

    Returns:
        A scalar in float32; 0 if the input is empty.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('attention_distance', x, y)
    difference = F.normalize(x.float().flatten(1), dim=1) - F.normalize(y.float().flatten(1), dim=1)
    return valid_mean('attention_distance', difference.square())
