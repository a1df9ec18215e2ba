"""The ground truth at the positions of a role's logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.foreground import box_masks, inside_boxes
from mmadm.structures import RoleOutput


def targets_like(output: RoleOutput, reference: Tensor) -> Tensor | None:
    """What is true at each position of class maps.

    Args:
        output: What the role produced.
        reference: Its logits (N * A, K, h, w).

    Returns:
        Segmentation: class ids (N, h, w), resized to the nearest. Detectors with class maps: bool (N * A, K, h, w),
        True where the centre of the position lies in a box of the class; stock heads assign fewer positions, each by a
        rule of its own. None where nothing is known, as for regions of interest.
    """
    if reference.dim() != 4:
        return None
    if output.labels is not None:
        labels = output.labels.float().unsqueeze(1)
        return F.interpolate(labels, size=reference.shape[2:], mode='nearest').squeeze(1).long()
    if output.gt_boxes is None or output.gt_labels is None or output.valid is None:
        return None
    image, cells = tuple(output.valid.shape[1:]), tuple(reference.shape[2:])
    targets = torch.zeros(len(output.gt_boxes), *reference.shape[1:], device=reference.device)
    for target, boxes, ids in zip(targets, output.gt_boxes, output.gt_labels, strict=True):
        target.index_add_(0, ids, box_masks(boxes, image, cells).to(target.dtype))
    targets = targets > 0
    return targets.repeat_interleave(reference.shape[0] // targets.shape[0], dim=0)


def objects_like(output: RoleOutput, reference: Tensor, classes: Sequence[int] | None = None) -> Tensor | None:
    """Which positions of a map lie on ground-truth objects.

    Args:
        output: What the role produced.
        reference: A map (N * A, C, h, w); the priors of a position follow each other in the batch.
        classes: Class ids that are objects in a semantic segmentation; None takes what lies inside boxes.

    Returns:
        Bool (N * A, h, w); None where the data tell nothing of the kind.
    """
    if classes is not None and output.labels is not None:
        labels = targets_like(output, reference)
        objects = None if labels is None else torch.isin(labels, torch.tensor(classes, device=labels.device))
    elif classes is None and output.gt_boxes is not None and output.valid is not None:
        objects = inside_boxes(output.gt_boxes, tuple(output.valid.shape[1:]), tuple(reference.shape[2:]))
    else:
        return None
    return None if objects is None else objects.repeat_interleave(reference.shape[0] // objects.shape[0], dim=0)
