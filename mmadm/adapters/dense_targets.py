"""What a single-stage detector's own assigner makes of a batch, read off the calls of its class loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmadm.utils.dense import DenseTargets
from mmadm.utils.ranks import mean_over_ranks


class LossCall(NamedTuple):
    """What a class loss was called with.

    Attributes:
        rows: Number of priors.
        target: Class ids (P,), or what else the loss takes.
        weight: Of each prior (P,); None for 1.
        avg_factor: What the head divides by.
    """

    rows: int
    target: Any
    weight: Tensor | None
    avg_factor: Any


@contextmanager
def noted(loss: nn.Module | None) -> Iterator[list[LossCall]]:
    """Note the calls of a stock class loss while the block runs: a second assignment would cost as much as the first.

    Args:
        loss: ``loss_cls`` of a head; None notes nothing.

    Yields:
        The calls in their order.
    """
    calls: list[LossCall] = []

    def note(_loss: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Remember one call."""
        named = dict(zip(('pred', 'target', 'weight', 'avg_factor'), args, strict=False)) | dict(kwargs)
        target = named.get('target')
        if isinstance(target, tuple):  # class ids, and how good the boxes are
            target = target[0]
        calls.append(LossCall(len(args[0]), target, named.get('weight'), named.get('avg_factor')))

    handle = None if loss is None else loss.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        if handle is not None:
            handle.remove()


def targets_of(
    calls: Sequence[LossCall], levels: Sequence[Tensor], images: int, classes: int, boxes: Sequence[Tensor]
) -> DenseTargets:
    """Put together what the calls say.

    Args:
        calls: Of one batch.
        levels: Class scores (N * A, K, h, w), of which only the shapes count.
        images: Number N of images.
        classes: Number of classes; this id, and each below 0, is no object.
        boxes: Ground truth of each image.

    Returns:
        The targets. A head whose loss tells no class ids counts as many positives as it divides by, else one for each
        box.
    """
    rows = [level.shape[0] * level.shape[2] * level.shape[3] for level in levels]
    whole = [call for call in calls if call.rows == sum(rows)]
    calls = whole[-1:] or list(calls)  # PAA asks its loss about some priors first
    if not calls or not all(map(_tells_classes, calls)):
        number = calls[-1].avg_factor if calls else None
        number = sum(map(len, boxes)) if number is None else number
        return DenseTargets(_at_least_one(torch.as_tensor(number, dtype=torch.float, device=levels[0].device)))
    labels = torch.cat([call.target.reshape(-1) for call in calls])
    positives = _at_least_one(((labels >= 0) & (labels < classes)).sum().float())
    if [call.rows for call in calls] not in (rows, [sum(rows)]):
        return DenseTargets(positives)
    weights = [torch.ones_like(c.target, dtype=torch.float) if c.weight is None else c.weight for c in calls]
    of_labels, of_weights = (
        [_as_map(part, level, images) for part, level in zip(values.split(rows), levels, strict=True)]
        for values in (labels, torch.cat([weight.reshape(-1) for weight in weights]))
    )
    return DenseTargets(positives, of_labels, of_weights)


def centerness_loss(head: Any) -> nn.Module | None:
    """The box loss of a head that weighs boxes by the centerness of their points, as FCOS alone does; else None."""
    from mmdet.models.dense_heads import FCOSHead

    return head.loss_bbox if getattr(type(head), 'loss_by_feat', None) is FCOSHead.loss_by_feat else None


def centerness_of(calls: Sequence[LossCall], device: torch.device) -> Tensor:
    """The sum of what the calls of such a loss weigh; without a positive it is not called."""
    weights = [call.weight.sum() for call in calls if call.weight is not None]
    return torch.stack(weights).sum() if weights else torch.zeros((), device=device)


def _tells_classes(call: LossCall) -> bool:
    target = call.target
    return isinstance(target, Tensor) and not target.is_floating_point() and target.numel() == call.rows


def _at_least_one(number: Tensor) -> Tensor:
    """The mean over ranks, as stock heads take it."""
    return mean_over_ranks(number).clamp(min=1.0)


def _as_map(values: Tensor, level: Tensor, images: int) -> Tensor:
    """Rows in the order (image, row, column, prior) as a map (N * A, h, w)."""
    return values.reshape(images, *level.shape[2:], -1).permute(0, 3, 1, 2).flatten(0, 1)
