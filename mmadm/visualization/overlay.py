"""Packed images, and maps laid over them as colours."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mmadm.structures import SimilarityMaps

Image = NDArray[np.uint8]

#: Lowest and highest value and colours of each kind of map. Fixed, so that pictures of several steps or runs compare;
#: weights are multiples of the uniform weight
SCALES = {
    'similarity': (-1.0, 1.0, 'coolwarm'),
    'consensus': (0.0, 3.0, 'viridis'),
    'divergence': (0.0, 3.0, 'viridis'),
}


def spread_indices(length: int, count: int) -> list[int]:
    """``count`` indices at equal distances inside ``range(length)``; all of them if there are fewer."""
    count = min(count, length)
    return [(2 * index + 1) * length // (2 * count) for index in range(count)]


def rgb_image(item: dict[str, Any]) -> Image:
    """The image (H, W, 3) of a packed sample, see :func:`in_colours`."""
    return in_colours(item['inputs'])


def in_colours(values: Tensor) -> Image:
    """What to show (H, W, 3) of an image (C, H, W), which has its colours in BGR as OpenCV reads them.

    Of one or two channels the first is shown in grey, of more than three the first three in colours. What bytes do not
    hold, such as 16 bits or reflectances up to 1, is stretched from black to white.
    """
    values = values[:3].flip(0) if len(values) >= 3 else values[:1].expand(3, -1, -1)
    low, high = values.min().item(), values.max().item()
    if low < 0 or high > 255 or (values.is_floating_point() and high <= 1):
        values = (values.double() - low) * (255 / max(high - low, 1e-12))
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy().astype(np.uint8))


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
    mixed: Image = np.round((1 - opacity) * grey + opacity * heat).astype(np.uint8)
    return mixed


def similarity_overlays(image: Image, maps: SimilarityMaps) -> dict[str, Image]:
    """Lay the three maps over their image.

    Args:
        image: RGB image (H, W, 3).
        maps: Of this image.

    Returns:
        RGB images (H, W, 3) by the keys of ``SCALES``.
    """
    return {kind: heat_overlay(image, getattr(maps, kind)[0], *scale) for kind, scale in SCALES.items()}
