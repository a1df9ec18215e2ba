"""Pictures of a page: figures, images and class maps as PNG bytes and ``data:`` addresses."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from matplotlib.figure import Figure
from torch import Tensor

from mmadm.visualization.overlay import Image

IGNORED = (236, 238, 241)


@dataclass(frozen=True)
class Picture:
    """An image of the page: its ``data:`` address and the words below it."""

    uri: str
    caption: str


def plot(figure: Figure, caption: str) -> Picture:
    """A figure as a picture of the page."""
    return Picture(png_uri(figure), caption)


def picture(image: Image, caption: str) -> Picture:
    """An RGB image (H, W, 3) with its caption."""
    return Picture(data_uri(png(image)), caption)


def paint(labels: Tensor, palette: Sequence[Sequence[int]], ignore_index: int = 255) -> Image:
    """Class ids (H, W) as an RGB image (H, W, 3); ignored pixels are light grey."""
    table = np.full((256, 3), IGNORED, dtype=np.uint8)
    table[: len(palette)] = np.asarray(palette, dtype=np.uint8)
    table[ignore_index] = IGNORED
    return table[labels.numpy().astype(np.uint8)]


def enlarge(image: Image, width: int = 480) -> Image:
    """Enlarge a small image by a whole factor to at least ``width`` pixels, edges kept sharp; always a copy."""
    factor = max(1, -(-width // image.shape[1]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def png(image: Image, width: int = 480) -> bytes:
    """Encode an RGB image, small ones enlarged to at least ``width`` pixels."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(enlarge(image, width)).save(buffer, format='PNG', optimize=True)
    return buffer.getvalue()


def png_uri(figure: Figure) -> str:
    """A figure as a ``data:`` address, so that a page needs no second file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=160)
    small = io.BytesIO()
    # a figure has few colours: a palette makes the page a third as large
    PIL.Image.open(buffer).convert('RGB').quantize(256, dither=PIL.Image.Dither.NONE).save(small, 'png', optimize=True)
    return data_uri(small.getvalue())


def data_uri(png: bytes) -> str:
    """PNG bytes as a ``data:`` address."""
    return f'data:image/png;base64,{base64.b64encode(png).decode()}'
