"""The ground truth at the positions of a role's logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.distillers.base import for_each_prior
from mmadm.functional.foreground import box_masks, inside_boxes
from mmadm.structures import RoleOutput
from mmadm.utils.errors import ConfigError


def check_class_maps(distiller: str, role: str, tap: str, output: RoleOutput) -> None:
    """Check on a dry run that :func:`targets_like` will know the truth at a tap.

    Args:
        distiller: Name for the error.
        role: Role name.
        tap: Tap name.
        output: What the role produced.

    Raises:
        ConfigError: If a level is no map (N, K, h, w) with the role's own number K of class scores.
    """
    for level in output.taps[tap]:
        # `logits` are class scores by their name; a module's path is believed if it has as many channels
        if level.dim() == 4 and (tap.partition('[')[0] == 'logits' or level.shape[1] == output.classes):
            continue
        wanted = (
            f'which scores no position, so {distiller} cannot learn here'
            if output.classes is None
            else f'whose class maps are (N, {output.classes}, h, w); tap `logits`'
        )
        raise ConfigError(
            f'{distiller}.at: tap {tap!r} gives no class maps to know the truth at but {tuple(level.shape)} from role '
            f'{role!r}, {wanted}'
        )


def targets_like(output: RoleOutput, reference: Tensor) -> Tensor | None:
    """What is true at each position of class scores.

    Segmentation: the label, resized to the nearest; a single channel stands for class 1, as in stock mmseg. Detectors
    with class maps: the boxes in which the centre of the position lies; stock heads assign fewer positions, each by a
    rule of its own.

    Args:
        output: What the role produced; ``binary`` says which of the two forms its scores need.
        reference: Its logits (N * A, K, h, w).

    Returns:
        With a sigmoid per class bool (N * A, K, h, w), all False at ignored pixels. With one softmax class ids
        (N * A, h, w), where ignored pixels keep their id; of several boxes the smallest counts, and outside of all
        boxes the last channel, which is the background. None where nothing is known, as for regions of interest.
    """
    if reference.dim() != 4:
        return None
    channels = reference.shape[1]
    if output.labels is not None:
        labels = _labels_like(output.labels, reference)
        return _one_hot(labels, channels) if output.binary else labels
    if output.gt_boxes is None or output.gt_labels is None or output.valid is None:
        return None
    image, cells = tuple(output.valid.shape[1:]), tuple(reference.shape[2:])
    truth = _classes_of_boxes if output.binary else _class_of_smallest_box
    targets = torch.stack(
        [
            truth(box_masks(boxes, image, cells), boxes, ids, channels)
            for boxes, ids in zip(output.gt_boxes, output.gt_labels, strict=True)
        ]
    )
    return for_each_prior(targets, reference)


def _labels_like(labels: Tensor, reference: Tensor) -> Tensor:
    resized = F.interpolate(labels.float().unsqueeze(1), size=reference.shape[2:], mode='nearest')
    return resized.squeeze(1).long()


def _one_hot(labels: Tensor, channels: int) -> Tensor:
    first = 1 if channels == 1 else 0
    return labels.unsqueeze(1) == torch.arange(first, first + channels, device=labels.device).reshape(-1, 1, 1)


def _classes_of_boxes(masks: Tensor, _boxes: Tensor, ids: Tensor, channels: int) -> Tensor:
    counts = masks.new_zeros((channels, *masks.shape[1:]), dtype=torch.float)
    return counts.index_add_(0, ids, masks.float()) > 0


def _class_of_smallest_box(masks: Tensor, boxes: Tensor, ids: Tensor, channels: int) -> Tensor:
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = areas.argsort(stable=True)
    # the background as the last box of all, so that every position has one
    masks = torch.cat([masks[order], masks.new_ones((1, *masks.shape[1:]))])
    ids = torch.cat([ids[order], ids.new_tensor([channels - 1])])
    return ids[masks.int().argmax(dim=0)]


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
        labels = _labels_like(output.labels, reference)
        objects = torch.isin(labels, torch.tensor(classes, device=labels.device))
    elif classes is None and output.gt_boxes is not None and output.valid is not None:
        objects = inside_boxes(output.gt_boxes, tuple(output.valid.shape[1:]), tuple(reference.shape[2:]))
    else:
        return None
    return for_each_prior(objects, reference)
