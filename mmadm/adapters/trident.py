"""TridentNet: in training its backbone sees each image by several branches, and puts them below each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def tested_branch(model: Any, tensors: Sequence[Tensor], images: int) -> list[Tensor]:
    """Choose of maps (B * N, C, h, w) of a network with B branches the rows of the one that predicts.

    It is branch ``test_branch_idx``; the middle one where all predict (-1). Branches share their weights.

    Args:
        model: A detector; those of other kinds have one branch.
        tensors: Levels, before the backbone's last stage and in eval mode of N rows each.
        images: N.
    """
    branches, index = _branches(model), getattr(model.backbone, 'test_branch_idx', 0)
    chosen = index if index >= 0 else branches // 2
    split = [1 < branches == len(level) / images and level.dim() == 4 for level in tensors]
    return [level.chunk(branches)[chosen] if mine else level for level, mine in zip(tensors, split, strict=True)]


def image_of(model: Any, rois: Tensor, images: int) -> Tensor:
    """Let regions (n, 5) that were sampled in all branches point to their images; see :func:`tested_branch`."""
    if _branches(model) == 1:
        return rois
    return torch.cat([rois[:, :1] % images, rois[:, 1:]], dim=1)


def _branches(model: Any) -> int:
    return getattr(model.backbone, 'num_branch', 1)
