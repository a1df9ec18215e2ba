"""What travels between the adapters and the distillers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class RoleOutput:
    """What one role produced for one batch.

    Attributes:
        losses: Task losses by stock name, such as ``decode.loss_ce``; empty for a frozen role.
        taps: Tensors by tap name; always a list, because a module may return several levels or run several times.
        labels: Class ids of shape (N, H, W) at the resolution of the padded input, or None where a task has none.
        valid: Bool (N, H, W) at the same resolution: True where a position counts, that is at a labelled pixel or
            inside the image before padding. None if every position counts.
        binary: Whether the logits are scores of independent classes (sigmoid) and not of one distribution (softmax).
        gt_boxes: Ground-truth boxes (n, 4) of each image as (x1, y1, x2, y2) in pixels, or None where a task has none.
        gt_labels: Class id (n,) of each of these boxes, or None.
        architecture: Shapes of all parameters; only in the dry run before training.
        new_head: Makes another head (segmentation: classifier) of the role's own kind; only in the dry run.
        head_loss: Task losses by name and logits of such a head on given features; only in training.
        rois: Regions (n, 5) that a two-stage learner sampled: image index and box.
        on_rois: Scores a learner's regions with this two-stage role: takes them and ``logits`` or ``boxes`` and
            returns (n, C) without gradient.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    taps: dict[str, list[Tensor]] = field(default_factory=dict)
    labels: Tensor | None = None
    valid: Tensor | None = None
    binary: bool = False
    gt_boxes: list[Tensor] | None = None
    gt_labels: list[Tensor] | None = None
    architecture: tuple[tuple[int, ...], ...] = ()
    new_head: Callable[[], nn.Module] | None = None
    head_loss: Callable[[nn.Module, list[Tensor]], tuple[dict[str, Tensor], list[Tensor]]] | None = None
    rois: Tensor | None = None
    on_rois: Callable[[Tensor, str], Tensor] | None = None


@dataclass(frozen=True)
class SimilarityMaps:
    """What ADM sees of one image at one tap and level, each of shape (1, h, w) without the image's padding.

    Attributes:
        name: Distiller, tap and level, and the roles where a tap has several pairs, such as ``adm_feats_0``.
        student: Role name.
        teacher: Role name.
        similarity: Cosine similarity of student and teacher; the mean where a position has several priors.
        consensus: The student's position weights as multiples of the uniform weight.
        divergence: The teacher's position weights, likewise.
    """

    name: str
    student: str
    teacher: str
    similarity: Tensor
    consensus: Tensor
    divergence: Tensor
