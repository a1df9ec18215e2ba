"""Similarity maps of student and teacher features, and the weights made of them, as pictures and figures."""

from __future__ import annotations

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.uint8]


def colour_map(values: Tensor, low: float, high: float, colours: str = 'magma') -> Image:
    """Colour a map.

    Args:
        values: Map of shape (H, W).
        low: Value that gets the first colour; what lies below gets it too.
        high: Value that gets the last colour.
        colours: Name of a matplotlib colour map.

    Returns:
        RGB image (H, W, 3).

    Raises:
        ValueError: If ``high`` is not above ``low``.
    """
    if high <= low:
        raise ValueError(f'colour_map: high must be above low, found low={low}, high={high}')
    scaled = ((values.float() - low) / (high - low)).clamp(0, 1).cpu().numpy()
    return np.asarray(matplotlib.colormaps[colours](scaled, bytes=True)[..., :3])


def heat_overlay(
    image: Image, values: Tensor, low: float, high: float, colours: str = 'magma', opacity: float = 0.7
) -> Image:
    """Lay a map over the image that it belongs to.

    The image turns grey, so that every colour in the result comes from the map; the map is resized bilinearly.

    Args:
        image: RGB image (H, W, 3).
        values: Map of shape (h, w), such as one image of a similarity map (N, h, w).
        low: See :func:`colour_map`.
        high: See :func:`colour_map`.
        colours: See :func:`colour_map`.
        opacity: Share of the map in the mix, from 0 to 1.

    Returns:
        RGB image (H, W, 3).
    """
    grey = image.astype(np.float32).mean(axis=2, keepdims=True)
    resized = F.interpolate(values[None, None].float(), image.shape[:2], mode='bilinear', align_corners=False)[0, 0]
    heat = colour_map(resized, low, high, colours).astype(np.float32)
    return np.round((1 - opacity) * grey + opacity * heat).astype(np.uint8)


def relative_weights(weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Position weights as multiples of the uniform weight, so that maps of any size read alike.

    Args:
        weights: Shape (N, H*W), each row sums to 1.
        size: (H, W).

    Returns:
        Shape (N, H, W), with mean 1 over each image.
    """
    return weights.unflatten(1, size) * (size[0] * size[1])


def mean_by_class(similarity: Tensor, labels: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Mean similarity over the pixels of each class.

    Args:
        similarity: Shape (N, h, w).
        labels: Class ids of shape (N, H, W); the map is resized bilinearly to it.
        num_classes: Number of classes K.
        ignore_index: Label of pixels that do not count.

    Returns:
        Shape (K,); NaN for a class without pixels.
    """
    resized = F.interpolate(similarity[:, None].float(), labels.shape[1:], mode='bilinear', align_corners=False)[:, 0]
    valid = labels != ignore_index
    ids, values = labels[valid].long(), resized[valid]
    totals = torch.zeros(num_classes).index_add_(0, ids, values)
    return totals / torch.bincount(ids, minlength=num_classes)
