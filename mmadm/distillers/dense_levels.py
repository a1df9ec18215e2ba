"""What methods share that need a single-stage learner's own label assignment, prior by prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from mmadm.distillers.base import Facts
from mmadm.distillers.grids import grids_of, moved_onto
from mmadm.distillers.pairs import Edge, Outputs
from mmadm.structures import Kind, RoleOutput, Tap
from mmadm.utils.dense import DenseHead, DenseTargets
from mmadm.utils.errors import ConfigError

_UNASSIGNED = (
    '{0}: role {1!r} assigns no labels to its priors; it needs its task losses (model.roles.{1}.task_loss=True)'
)


def check_dense(method: str, edges: Sequence[Edge], facts: Facts) -> dict[str, DenseHead]:
    """Check that roles are single-stage detectors with sigmoids, whose priors and boxes are known and correspond.

    Args:
        method: Name for the error.
        edges: At class scores and boxes.
        facts: What a dry run found out.

    Returns:
        What their heads can do, by role.

    Raises:
        ConfigError: If a role is none, or scores by one softmax; if two have other levels or priors; or if a learner
            has no task losses, whose assignment counts.
    """
    heads = {}
    for tap in (tap for edge in edges for tap in (edge.learner, edge.source)):
        found, kind = facts[tap.role].dense, facts[tap.role].output.taps[tap].kind
        if found is None or kind is Kind.SOFTMAX_SCORES:
            what = kind.value if found is not None else 'another kind of network or head'
            raise ConfigError(
                f'{method}: role {tap.role!r} is {what}; it needs a single-stage detector with a sigmoid for each '
                'class that assigns as RetinaNet, FCOS, ATSS, GFL or RTMDet does. What fits others is Transfer or FGD'
            )
        heads[tap.role] = found
    for edge in edges:
        shapes = [[len(x) for x in facts[t.role].output.taps[t].levels] for t in (edge.learner, edge.source)]
        if edge.learner.base == edge.source.base == 'logits' and shapes[0] != shapes[1]:
            numbers = [f'{len(shape)} levels with {max(shape)} priors at a position' for shape in shapes]
            raise ConfigError(
                f'{method}: role {edge.learner.role!r} has {numbers[0]}, {edge.source.role!r} {numbers[1]}; both need '
                'the same: take a teacher with the head and anchors of the student, or features, as FGD does'
            )
        if facts[edge.learner.role].output.truth.boxes is None:
            raise ConfigError(_UNASSIGNED.format(method, edge.learner.role))
    return heads


def targets_for(method: str, learner: RoleOutput, role: str) -> tuple[DenseTargets, list[Tensor]]:
    """What a learner's assigner made of the batch, and the weights (N * A, h, w) of each level, 0 beyond the image.

    Raises:
        ConfigError: If the role has no task losses in this training.
    """
    targets = learner.targets()
    if targets is None or targets.weights is None:
        raise ConfigError(_UNASSIGNED.format(method, role))
    (tap,) = (tap for tap in learner.taps if tap.base == 'logits')
    masks = [grid.image_mask() for grid in grids_of(learner, tap)]
    return targets, [w if mask is None else w * mask for w, mask in zip(targets.weights, masks, strict=True)]


def positives_at(targets: DenseTargets, scores: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Which priors (N * A, h, w) of each level the assigner gave an object, of those that count."""
    levels = zip(targets.labels or (), scores, weights, strict=True)
    return [(labels >= 0) & (labels < level.shape[1]) & (weight > 0) for labels, level, weight in levels]


def taught_at(edge: Edge, outputs: Outputs) -> list[Tensor]:
    """The source's maps at the positions of the learner, detached."""
    levels = zip(*(grids_of(outputs[tap.role], tap) for tap in (edge.source, edge.learner)), strict=True)
    return [moved_onto(theirs, mine).detach() for theirs, mine in levels]


def boxes_of(tap: Tap, outputs: Outputs, head: DenseHead) -> list[Tensor]:
    """Boxes (N * A, 4, h, w) of a role's own maps in pixels of its input."""
    return head.decode(outputs[tap.role].taps[tap].levels)


def taught_boxes(edge: Edge, outputs: Outputs, head: DenseHead) -> list[Tensor]:
    """The source's boxes in pixels of the learner's input and at its positions, detached."""
    source, learner = outputs[edge.source.role], outputs[edge.learner.role]
    rows, columns = source.area.scale_to(learner.area)
    found = []
    grids = zip(grids_of(source, edge.source), grids_of(learner, edge.learner), strict=True)
    for boxes, (theirs, mine) in zip(boxes_of(edge.source, outputs, head), grids, strict=True):
        scaled = boxes.clone()  # by numbers: a tensor of them would have to be copied to the GPU, which waits
        scaled[:, 0::2] *= columns
        scaled[:, 1::2] *= rows
        found.append(moved_onto(replace(theirs, values=scaled), mine).detach())
    return found


def rows_of(values: Tensor) -> Tensor:
    """Maps (M, C, h, w) as rows (M * h * w, C)."""
    return values.movedim(1, -1).flatten(0, -2)
