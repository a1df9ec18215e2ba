"""Similarity of student and teacher features as figures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
