"""What travels between the adapters and the distillers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

from torch import Tensor, nn


class Kind(Enum):
    """What a tap's tensors are; the value is how messages call it."""

    SOFTMAX_SCORES = 'class scores (one softmax)'
    SIGMOID_SCORES = 'class scores (a sigmoid each)'
    BOXES = 'box regression'
    BOX_DISTRIBUTIONS = 'box distributions'
    MAP = 'a feature map'
    TOKENS = 'tokens'
    VECTORS = 'vectors'


@dataclass(frozen=True)
class PairContext:
    """What a loss may know of the two tensors that it compares.

    Attributes:
        kind: What they are.
        level: Index of the tap's level.
        mask: Bool, where a position counts: (N, h, w) of maps (N, C, h, w); None if every one does.
        labels: Makes the true classes at the positions, None where nothing is known.
    """

    kind: Kind = Kind.MAP
    level: int = 0
    mask: Tensor | None = None
    labels: Callable[[], Tensor | None] = lambda: None


@dataclass(frozen=True)
class RoleOutput:
    """What one role produced for one batch.

    Attributes:
        losses: Task losses by stock name, such as ``decode.loss_ce``; empty for a frozen role.
        taps: Tensors by tap name; always a list, because a module may return several levels or run several times.
        truth: Makes the ground truth, by the names of the properties below; called when one of them is first read.
        binary: Whether the logits are scores of independent classes (sigmoid) and not of one distribution (softmax).
        architecture: Shapes of all parameters; only in the dry run before training.
        classes: Channels of its class maps, None if it has none; only in the dry run.
        new_head: Makes another head (segmentation: classifier) of the role's own kind; only in the dry run.
        head_loss: Task losses by name and logits of such a head on given features; only in training.
        rois: Regions (n, 5) that a two-stage learner sampled: image index and box.
        on_rois: Scores a learner's regions with this two-stage role: takes them and ``logits`` or ``boxes`` and
            returns (n, C) without gradient.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    taps: dict[str, list[Tensor]] = field(default_factory=dict)
    truth: Callable[[], Mapping[str, Any]] = dict
    binary: bool = False
    architecture: tuple[tuple[int, ...], ...] = ()
    classes: int | None = None
    new_head: Callable[[], nn.Module] | None = None
    head_loss: Callable[[nn.Module, list[Tensor]], tuple[dict[str, Tensor], list[Tensor]]] | None = None
    rois: Tensor | None = None
    on_rois: Callable[[Tensor, str], Tensor] | None = None

    @property
    def labels(self) -> Tensor | None:
        """Class ids of shape (N, H, W) at the resolution of the padded input, or None where a task has none."""
        return self._known.get('labels')

    @property
    def valid(self) -> Tensor | None:
        """Where a position counts: at a labelled pixel, or inside the image before padding.

        Bool (N, H, W) at the resolution of the padded input; None if every position counts.
        """
        return self._known.get('valid')

    @property
    def gt_boxes(self) -> list[Tensor] | None:
        """Boxes (n, 4) of each image as (x1, y1, x2, y2) in pixels, or None where a task has none."""
        return self._known.get('gt_boxes')

    @property
    def gt_labels(self) -> list[Tensor] | None:
        """Class id (n,) of each of the boxes, or None."""
        return self._known.get('gt_labels')

    @cached_property
    def _known(self) -> Mapping[str, Any]:
        # many losses ask for nothing of it, and it is made from maps of the size of the images
        return self.truth()


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
