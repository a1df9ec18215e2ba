"""How much of a map lies on objects: the two observations that ADM rests on (methods.md, section 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def box_masks(boxes: Tensor, image_size: tuple[float, float], map_size: tuple[int, int]) -> Tensor:
    """Which positions of a map have their centre inside each box of an image.

    Args:
        boxes: Shape (n, 4) as (x1, y1, x2, y2) in pixels; n may be 0.
        image_size: Height and width of the image in pixels.
        map_size: Height and width of the map.

    Returns:
        Bool of shape (n, height, width).
    """
    y, x = (
        (torch.arange(cells, device=boxes.device) + 0.5) * (pixels / cells)
        for cells, pixels in zip(map_size, image_size, strict=True)
    )
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    rows = (y >= y1[:, None]) & (y < y2[:, None])
    columns = (x >= x1[:, None]) & (x < x2[:, None])
    return rows[:, :, None] & columns[:, None, :]


def inside_boxes(boxes: Sequence[Tensor], image_size: tuple[float, float], map_size: tuple[int, int]) -> Tensor:
    """Which positions of the maps of N images are inside any of their boxes, see :func:`box_masks`.

    Returns:
        Bool of shape (N, height, width).
    """
    # the boxes of all images at once: a loop over images takes longer than the loss that this is logged with
    images = torch.cat([image.new_full((len(image),), number, dtype=torch.long) for number, image in enumerate(boxes)])
    masks = box_masks(torch.cat(list(boxes)), image_size, map_size)
    counts = torch.zeros(len(boxes), *map_size, device=masks.device)
    return counts.index_add_(0, images, masks.float()) > 0


def foreground_share(weights: Tensor, foreground: Tensor, mask: Tensor | None = None) -> Tensor:
    """Share of the weight that lies on the foreground, the mean over the images that have any.

    Args:
        weights: Weights of shape (N, ...) that sum to 1 in each image.
        foreground: Bool of shape (N, ...), of the same number of positions.
        mask: True where a position counts, shape of the foreground; all by default. Elsewhere is no foreground.

    Returns:
        A scalar between 0 and 1; 0 if no image has foreground.
    """
    foreground = _inside(foreground, mask).flatten(1).to(weights.dtype)
    has_any = foreground.amax(dim=1)
    share = (weights.flatten(1) * foreground).sum(dim=1)
    return (share * has_any).sum() / has_any.sum().clamp(min=1.0)


def foreground_overlap(score: Tensor, foreground: Tensor, mask: Tensor | None = None) -> Tensor:
    """IoU of the foreground with as many positions, those of the highest score; the mean over images that have both.

    Args:
        score: What to rank the positions of an image by, shape (N, ...), or several such scores (..., N, ...).
        foreground: Bool of shape (N, ...).
        mask: True where a position counts, same shape; all by default. The others are neither ranked nor background.

    Returns:
        For each score a value between 0 and 1 without gradient; 0 if no image has both foreground and background.
    """
    if mask is not None:
        score = score.masked_fill(~mask, -torch.inf)  # below every position that counts
    score = score.flatten(1 - foreground.dim())
    foreground = _inside(foreground, mask).flatten(1)
    size = foreground.sum(dim=1)
    order = score.argsort(dim=-1, descending=True, stable=True)
    # of the positions in order of their score, the first `size` are chosen
    chosen = torch.arange(order.shape[-1], device=order.device) < size[:, None]
    shared = (foreground.expand_as(order).gather(-1, order) & chosen).sum(dim=-1)
    return _mean_of_mixed(shared / (2 * size - shared).clamp(min=1), size, _positions(foreground, mask))


def chance_overlap(foreground: Tensor, mask: Tensor | None = None) -> Tensor:
    """What :func:`foreground_overlap` is near for random scores: ``p / (2 - p)``, ``p`` the share of the foreground.

    Args:
        foreground: Bool of shape (N, ...).
        mask: True where a position counts, same shape; all by default.

    Returns:
        A scalar between 0 and 1; 0 if no image has both foreground and background.
    """
    size = _inside(foreground, mask).flatten(1).sum(dim=1)
    positions = _positions(foreground, mask)
    return _mean_of_mixed(size / (2 * positions - size + (size == 0)), size, positions)


def _inside(foreground: Tensor, mask: Tensor | None) -> Tensor:
    return foreground if mask is None else foreground & mask


def _positions(foreground: Tensor, mask: Tensor | None) -> Tensor | int:
    """How many positions of an image count: of each, or one number for all."""
    return foreground.shape[1:].numel() if mask is None else mask.flatten(1).sum(dim=1)


def _mean_of_mixed(values: Tensor, size: Tensor, positions: Tensor | int) -> Tensor:
    """The mean of values (..., N) over images of which some positions are foreground, but not all."""
    mixed = ((size > 0) & (size < positions)).to(values.dtype)
    return (values * mixed).sum(dim=-1) / mixed.sum().clamp(min=1.0)
