"""The ground truth at the positions of a map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.distillers.grids import Grid, for_each_prior
from mmadm.functional.foreground import box_masks, inside_boxes
from mmadm.structures import Kind, RoleFacts, RoleOutput, Tap
from mmadm.utils.errors import ConfigError


def check_class_maps(distiller: str, tap: Tap, facts: RoleFacts) -> None:
    """Check on a dry run that :func:`class_targets` will know the truth at a tap.

    Args:
        distiller: Name for the error.
        tap: The tap.
        facts: What the dry run found out about its role.

    Raises:
        ConfigError: If a level is neither a map (N, K, h, w) of class scores nor a classifier's scores (N, K).
    """
    found = facts.output.taps[tap]
    known = (4,) if facts.output.truth.image_labels is None else (2, 4)
    if found.kind.scores_classes and all(level.dim() in known for level in found.levels):
        return
    wanted = (
        f'which scores no position, so {distiller} cannot learn here'
        if facts.classes is None
        else f'whose class maps are (N, {facts.classes}, h, w); tap `logits`'
    )
    raise ConfigError(
        f'{distiller}.at: tap {str(tap)!r} gives no class maps to know the truth at but {found.kind.value} '
        f'{tuple(found.levels[0].shape)} from role {tap.role!r}, {wanted}'
    )


def class_targets(learner: RoleOutput, grid: Grid, kind: Kind) -> Tensor | None:
    """What is true at each position of class scores.

    Segmentation: the label, resized to the nearest; a single channel stands for class 1, as in stock mmseg. Detectors
    with class maps: the boxes in which the centre of the position lies; stock heads assign fewer positions, each by a
    rule of its own. Classifiers: the class of the image.

    Args:
        learner: The role whose ground truth counts.
        grid: Where class scores (N * A, K, h, w) lie, of this role or of another one.
        kind: Says which of the two forms the scores need.

    Returns:
        With a sigmoid per class bool (N * A, K, h, w), all False at ignored pixels. With one softmax class ids
        (N * A, h, w), where ignored pixels keep their id; of several boxes the smallest counts, and outside of all
        boxes the last channel, which is the background. None where nothing is known, as for regions of interest.
    """
    channels, truth, binary = grid.values.shape[1], learner.truth, kind is Kind.SIGMOID_SCORES
    if grid.stride is None:
        labels = truth.image_labels
        return F.one_hot(labels, channels).bool() if binary and labels is not None and labels.dim() == 1 else labels
    if truth.labels is not None:
        labels = labels_at(learner, grid)
        return _one_hot(labels, channels) if binary else labels
    if truth.boxes is None or truth.box_labels is None:
        return None
    extent, of_boxes = grid.extent_in(learner.area), _classes_of_boxes if binary else _class_of_smallest_box
    targets = torch.stack(
        [
            of_boxes(box_masks(boxes, extent, grid.cells), boxes, ids, channels)
            for boxes, ids in zip(truth.boxes, truth.box_labels, strict=True)
        ]
    )
    return for_each_prior(targets, grid.values)


def labels_at(learner: RoleOutput, grid: Grid) -> Tensor:
    """Class ids (N, h, w) of a segmentation at the positions of a map; beyond the labels they are ignored."""
    truth, (height, width) = learner.truth, (round(side) for side in grid.extent_in(learner.area))
    assert truth.labels is not None
    labels = truth.labels[:, :height, :width]
    missing = height - labels.shape[1], width - labels.shape[2]
    if any(missing):
        labels = F.pad(labels, (0, missing[1], 0, missing[0]), value=truth.ignore_index)
    # the map has the size of the image, and as floats of 8 bytes takes longer
    return F.interpolate(labels.float().unsqueeze(1), size=grid.cells, mode='nearest').squeeze(1).long()


def valid_mask(learner: RoleOutput, grid: Grid, kind: Kind) -> Tensor | None:
    """Where a position counts: on the image and, of class scores, at a labelled pixel.

    Args:
        learner: The role whose labels count.
        grid: The positions.
        kind: What is compared there.

    Returns:
        Bool (N * A, h, w); None if every position counts.
    """
    mask = grid.image_mask()
    if not kind.scores_classes or learner.truth.labels is None or grid.stride is None:
        return mask
    labelled = for_each_prior(labels_at(learner, grid) != learner.truth.ignore_index, grid.values)
    return labelled if mask is None else labelled & mask


def objects_at(learner: RoleOutput, grid: Grid, classes: Sequence[int] | None = None) -> Tensor | None:
    """Which positions of a map lie on ground-truth objects.

    Args:
        learner: The role whose ground truth counts.
        grid: The positions; the priors of one follow each other in the batch.
        classes: Class ids that are objects in a semantic segmentation; None takes what lies inside boxes.

    Returns:
        Bool (N * A, h, w); None where the data tell nothing of the kind.
    """
    truth = learner.truth
    if classes is not None and truth.labels is not None:
        labels = labels_at(learner, grid)
        objects = torch.zeros_like(labels, dtype=torch.bool)
        for number in classes:
            objects |= labels == number
    elif classes is None and truth.boxes is not None:
        objects = inside_boxes(truth.boxes, grid.extent_in(learner.area), grid.cells)
    else:
        return None
    return for_each_prior(objects, grid.values)


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
    ids = torch.cat([ids[order], ids.new_full((1,), channels - 1)])
    return ids[masks.int().argmax(dim=0)]
