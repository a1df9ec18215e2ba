"""Boxes of single-stage detectors: priors, and what regression maps mean."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmadm.adapters.cross_head import known_head
from mmadm.structures import Size
from mmadm.utils.dense import DenseHead


def dense_head(head: Any) -> DenseHead | None:
    """What a head can do beside its forward pass.

    Args:
        head: A stock head.

    Returns:
        None for one whose boxes or assignment are not those of RetinaNet, FCOS, ATSS, GFL or RTMDet.
    """
    from mmdet.models.dense_heads import ATSSHead, FCOSHead, GFLHead, RetinaHead, RTMDetHead

    known = (RetinaHead, FCOSHead, ATSSHead, GFLHead, RTMDetHead)
    # a head that overrides the loss (PAA, FSAF, PISA, DDOD, VFNet) assigns in a way of its own
    if getattr(type(head), 'loss_by_feat', None) not in [kind.loss_by_feat for kind in known]:
        return None
    return DenseHead(partial(_priors, head), partial(_decoded, head), known_head(head))


def _priors(head: Any, sizes: Sequence[Size], device: torch.device) -> list[Tensor]:
    """Priors of each level in the order (row, column, prior): boxes (P, 4), or points (P, 2)."""
    return [getattr(prior, 'tensor', prior) for prior in head.prior_generator.grid_priors(list(sizes), device=device)]


def _decoded(head: Any, levels: Sequence[Tensor]) -> list[Tensor]:
    """Turn maps of the tap ``boxes`` into boxes (N * A, 4, h, w) in pixels."""
    sizes = [(level.shape[2], level.shape[3]) for level in levels]
    strides = [stride if isinstance(stride, int | float) else stride[0] for stride in head.prior_generator.strides]
    by_level = zip(levels, _priors(head, sizes, levels[0].device), strides, strict=True)
    return [_decoded_level(head, level, priors, stride) for level, priors, stride in by_level]


def _decoded_level(head: Any, level: Tensor, priors: Tensor, stride: float) -> Tensor:
    distributions = hasattr(head, 'integral')
    if distributions:  # (N * 4, bins, h, w)
        rows = level.unflatten(0, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(3).flatten(0, 2).float()
        rows = head.integral(rows) * stride
    else:  # (N, A * 4, h, w)
        rows = level.permute(0, 2, 3, 1).reshape(-1, 4).float()
        if getattr(head, 'norm_on_bbox', False):
            rows = rows * stride
    images = len(rows) // len(priors)
    if 'Distance' in type(head.bbox_coder).__name__:  # from a point
        priors = priors if priors.shape[1] == 2 else (priors[:, :2] + priors[:, 2:]) / 2
    boxes = head.bbox_coder.decode(priors.repeat(images, 1), rows)
    boxes = getattr(boxes, 'tensor', boxes)
    return boxes.reshape(images, *level.shape[2:], -1, 4).permute(0, 3, 4, 1, 2).flatten(0, 1)
