"""Where the positions of a tap lie, so that two roles are compared at the same image content (law 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.modules import resize_like
from mmadm.structures import BatchArea, RoleOutput, Size, Tap


@dataclass(frozen=True)
class Grid:
    """The positions of one level of a tap; those of tokens and vectors lie nowhere.

    Attributes:
        values: The level's tensor; maps are (N * A, C, h, w).
        stride: Pixels (rows, columns) from one position to the next; None if it is no map.
        area: Where the images lie in the role's input.
    """

    values: Tensor
    stride: tuple[float, float] | None
    area: BatchArea

    @property
    def cells(self) -> Size:
        """Height and width of the map."""
        return self.values.shape[2], self.values.shape[3]

    def covers_input_of(self, other: BatchArea) -> bool:
        """Whether the role's input shows as much as another input of the same images, padding included."""
        pairs = zip(self.area.padded, self.area.scale_to(other), other.padded, strict=True)
        return all(round(mine * scale) == theirs for mine, scale, theirs in pairs)

    def extent_in(self, other: BatchArea) -> tuple[float, float]:
        """Height and width of what the map covers, in pixels of another input of the same images."""
        if self.covers_input_of(other):
            return float(other.padded[0]), float(other.padded[1])
        assert self.stride is not None
        scale = self.area.scale_to(other)
        return self.cells[0] * self.stride[0] * scale[0], self.cells[1] * self.stride[1] * scale[1]

    def image_mask(self) -> Tensor | None:
        """Which positions show some of the image: bool (N * A, h, w); None if every one does, or none has a place."""
        shown = self.image_sizes()
        if shown is None:
            return None
        # filled by slices: a tensor made of these numbers would be copied to a GPU, and the host would wait for it
        mask = torch.zeros(len(shown), *self.cells, dtype=torch.bool, device=self.values.device)
        for of_image, (rows, columns) in zip(mask, shown, strict=True):
            of_image[:rows, :columns] = True
        return for_each_prior(mask, self.values)

    def image_sizes(self) -> list[Size] | None:
        """Rows and columns that show some of each image; None if every position does, or none has a place."""
        if self.stride is None:
            return None
        shown = [self.image_cells(image) for image in range(len(self.area.images))]
        return None if all(cells == self.cells for cells in shown) else shown

    def image_cells(self, image: int) -> Size:
        """Rows and columns of the map that show some of one image."""
        assert self.stride is not None
        rows, columns = (
            min(math.ceil(side / stride), cells)
            for side, stride, cells in zip(self.area.images[image], self.stride, self.cells, strict=True)
        )
        return rows, columns


def grids_of(output: RoleOutput, tap: Tap) -> list[Grid]:
    """Every level of a role's own tap."""
    found = output.taps[tap]
    strides = found.strides or (None,) * len(found.levels)
    return [Grid(level, stride, output.area) for level, stride in zip(found.levels, strides, strict=True)]


def moved_onto(moving: Grid, fixed: Grid, values: Tensor | None = None) -> Tensor:
    """Bring a map to the positions of another role's map: first the same part of the images, then the same size.

    Args:
        moving: What is moved.
        fixed: Where to.
        values: In place of the moving grid's own tensor, at the same positions.

    Returns:
        Shape (N * A, C, h, w) with the fixed map's height and width; tensors that are no maps stay. Beyond the input of
        the moving map its border goes on.
    """
    values = moving.values if values is None else values
    if values.dim() != 4 or fixed.values.dim() != 4:
        return values
    if moving.stride and fixed.stride and not moving.covers_input_of(fixed.area):
        extent = fixed.extent_in(moving.area)
        wanted = [pixels / stride for pixels, stride in zip(extent, moving.stride, strict=True)]
        if any(abs(cells - round(cells)) > 1e-3 for cells in wanted):
            return _sampled(values, wanted, fixed.cells)
        values = _cut_or_extended(values, (round(wanted[0]), round(wanted[1])))
    return resize_like(values, fixed.values)


def _cut_or_extended(values: Tensor, size: Size) -> Tensor:
    values = values[..., : size[0], : size[1]]
    missing = [target - side for side, target in zip(values.shape[2:], size, strict=True)]
    return F.pad(values, (0, missing[1], 0, missing[0]), mode='replicate') if any(missing) else values


def _sampled(values: Tensor, wanted: list[float], size: Size) -> Tensor:
    """Bilinear samples at ``size`` positions that are spread over the first ``wanted`` rows and columns."""
    axes = [
        2 * (torch.arange(cells, device=values.device) + 0.5) * (part / cells) / side - 1
        for cells, part, side in zip(size, wanted, values.shape[2:], strict=True)
    ]
    rows, columns = torch.meshgrid(*axes, indexing='ij')
    grid = torch.stack([columns, rows], dim=-1).to(values.dtype).expand(values.shape[0], -1, -1, -1)
    return F.grid_sample(values, grid, mode='bilinear', padding_mode='border', align_corners=False)


def for_each_prior(values: Tensor, reference: Tensor) -> Tensor:
    """Repeat maps (N, ...) to the batch of a reference (N * A, ...): a position's priors follow each other there."""
    priors = reference.shape[0] // values.shape[0]
    return values if priors == 1 else values.repeat_interleave(priors, dim=0)
