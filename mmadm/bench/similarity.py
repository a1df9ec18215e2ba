"""Similarity of student and teacher features as figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadm.structures import SimilarityMaps
from mmadm.visualization.distiller_maps import similarity_maps


def adm_maps(model: nn.Module, item: dict[str, Any]) -> SimilarityMaps | None:
    """Maps of a model's first pair of student and teacher on one packed image, at the finest level.

    Returns:
        None if the model has no ADM distiller.
    """
    found = similarity_maps(model, item) if hasattr(model, 'look') else []
    if not found:
        return None
    first, *others = found
    pair = [first, *(maps for maps in others if (maps.student, maps.teacher) == (first.student, first.teacher))]
    # the last of equally large ones, as the layers of a dilated backbone are
    finest = max(reversed(pair), key=lambda maps: maps.similarity.numel())
    return replace(finest, **{kind: getattr(finest, kind).cpu() for kind in ('similarity', 'consensus', 'divergence')})


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
