"""What travels between adapters, distillers and losses: taps, what they give, where it lies, and what a step is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import Tensor, nn

from mmadm.utils.dense import DenseHead, DenseTargets
from mmadm.utils.errors import ConfigError

Size = tuple[int, int]


class Kind(Enum):
    """What a tap's tensors are; the value is how messages call it."""

    SOFTMAX_SCORES = 'class scores (one softmax)'
    SIGMOID_SCORES = 'class scores (a sigmoid each)'
    BOXES = 'box regression'
    BOX_DISTRIBUTIONS = 'box distributions'
    MAP = 'a feature map'
    TOKENS = 'tokens'
    VECTORS = 'vectors'

    @property
    def scores_classes(self) -> bool:
        """Whether channels are classes."""
        return self in (Kind.SOFTMAX_SCORES, Kind.SIGMOID_SCORES)


@dataclass(frozen=True)
class PairContext:
    """What a loss may know of the two tensors that it compares.

    Attributes:
        kind: What they are.
        level: Index of the tap's level.
        mask: Bool, where a position counts: (N, h, w) of maps (N, C, h, w); None if every one does.
        labels: Makes the true classes at the positions, None where nothing is known.
        positives: Counts how many positive priors a single-stage learner's batch has for each level of the tap, on
            average; None of other learners. With it the mean over levels is the sum over all priors by the number of
            positives.
    """

    kind: Kind = Kind.MAP
    level: int = 0
    mask: Tensor | None = None
    labels: Callable[[], Tensor | None] = lambda: None
    positives: Callable[[], Tensor | None] = lambda: None


@dataclass(frozen=True)
class Tap:
    """A place inside a role, parsed once from what a config says.

    Attributes:
        role: Role name.
        base: ``logits``, ``boxes``, ``feats``, another well-known name, or the path of a module.
        first: Index of the first level that is kept; None for all from the start.
        stop: Index of the first level that is not; None for all to the end.
    """

    role: str
    base: str
    first: int | None = None
    stop: int | None = None

    @classmethod
    def parse(cls, role: str, text: str) -> Tap:
        """Read ``feats``, ``feats[0]`` (one level) or ``feats[1:4]`` (levels 1 to 3).

        Raises:
            ConfigError: If what stands in the brackets is neither an index nor a range.
        """
        base, bracket, inside = str(text).partition('[')
        if not bracket:
            return cls(role, base)
        found = re.fullmatch(r'(-?\d*)(:?)(-?\d*)\]', inside)
        if not found or not any(found.groups()):
            raise ConfigError(f'tap {text!r}: levels are chosen by feats[0] or feats[1:4]')
        first, colon, last = found.groups()
        if colon:
            return cls(role, base, int(first) if first else None, int(last) if last else None)
        return cls(role, base, int(first), int(first) + 1 or None)

    def __str__(self) -> str:
        """As a config writes it."""
        if self.first is None and self.stop is None:
            return self.base
        if self.first is not None and self.stop == (self.first + 1 or None):
            return f'{self.base}[{self.first}]'
        return f'{self.base}[{"" if self.first is None else self.first}:{"" if self.stop is None else self.stop}]'


@dataclass(frozen=True)
class BatchArea:
    """Which part of a batch is image: stock preprocessors pad at the right and at the bottom.

    Attributes:
        padded: Height and width of the network's input.
        images: Height and width of each image in it.
    """

    padded: Size
    images: tuple[Size, ...]

    @property
    def full(self) -> bool:
        """Whether there is no padding."""
        return all(image == self.padded for image in self.images)

    def scale_to(self, other: BatchArea) -> tuple[float, float]:
        """How many pixels (rows, columns) of another input one pixel of this one is, for the same images."""
        mine, theirs = ([sum(sizes) for sizes in zip(*area.images, strict=True)] for area in (self, other))
        return theirs[0] / mine[0], theirs[1] / mine[1]


@dataclass(frozen=True)
class TapOutput:
    """What a tap gave in a forward pass.

    Attributes:
        kind: What the tensors are.
        levels: A module may put out several tensors or run several times: maps (N * A, C, h, w) with the A priors of a
            position following each other, tokens (N, C, L), or vectors (n, C).
        strides: Of each level the pixels (rows, columns) from one position to the next; None where there are none.
    """

    kind: Kind
    levels: list[Tensor]
    strides: tuple[tuple[float, float] | None, ...] = ()


@dataclass(frozen=True)
class GroundTruth:
    """What is known of a batch, as a learner's own preprocessor made it.

    Attributes:
        labels: Class ids (N, H, W) at the resolution of the padded input; None where a task has none.
        ignore_index: The id of pixels without a label.
        boxes: Boxes (n, 4) of each image as (x1, y1, x2, y2) in pixels; None where a task has none.
        box_labels: Class ids (n,) of each of them.
        image_labels: Class id of each image (N,), or where it may have several classes bool (N, K); None likewise.
    """

    labels: Tensor | None = None
    ignore_index: int = 255
    boxes: list[Tensor] | None = None
    box_labels: list[Tensor] | None = None
    image_labels: Tensor | None = None


@dataclass(frozen=True)
class RoleOutput:
    """What one role produced for one batch.

    Attributes:
        losses: Task losses by stock name, such as ``decode.loss_ce``; empty for a frozen role.
        taps: By tap.
        area: Where its images lie.
        truth: Of a role that computes task losses.
        data_samples: The stock data samples that it saw.
        rois: Regions (n, 5) that a two-stage learner sampled: image index and box.
        mask_rois: Those (n, 6) of them whose masks it learns: image index, box and class; None if no mask is tapped.
        regional: A two-stage role's scores of another role's regions, by that role's name and the tap.
        levels: What a two-stage role scores regions from: its neck's maps.
        targets: Makes, once, what the assigner of a single-stage learner made of the batch; None of any other role.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    taps: dict[Tap, TapOutput] = field(default_factory=dict)
    area: BatchArea = BatchArea((0, 0), ())
    truth: GroundTruth = GroundTruth()
    data_samples: Sequence[Any] = ()
    rois: Tensor | None = None
    mask_rois: Tensor | None = None
    regional: dict[tuple[str, Tap], TapOutput] = field(default_factory=dict)
    levels: Sequence[Tensor] | None = None
    targets: Callable[[], DenseTargets | None] = lambda: None

    def regions_of(self, base: str) -> Tensor | None:
        """The sampled regions on which another role scores a tap, such as ``logits`` or ``masks``."""
        return self.mask_rois if base == 'masks' else self.rois


@dataclass(frozen=True)
class RoleFacts:
    """What a dry run before training finds out about a role.

    Attributes:
        output: Its taps on a blank image.
        architecture: Shapes of all parameters.
        classes: Channels of its class maps; None if it has none.
        new_head: Makes another head (segmentation: classifier) of the role's own kind.
        head_loss: Task losses by name and logits of such a head, on given features and data samples.
        dense: Of a single-stage detector; None if it works in a way of its own.
    """

    output: RoleOutput
    architecture: tuple[tuple[int, ...], ...] = ()
    classes: int | None = None
    new_head: Callable[[], nn.Module] | None = None
    head_loss: Callable[[nn.Module, list[Tensor], Sequence[Any]], tuple[dict[str, Tensor], list[Tensor]]] | None = None
    dense: DenseHead | None = None


@dataclass(frozen=True)
class Step:
    """What a distiller may know of a training step.

    Attributes:
        iteration: Training iteration, from 0.
        epoch: Epoch, from 0.
        connectors: The distiller's own modules by key.
    """

    iteration: int = 0
    epoch: int = 0
    connectors: Mapping[str, nn.Module] = field(default_factory=dict)


@dataclass(frozen=True)
class DistillerOutput:
    """What a distiller returns, by ``<role>.<name>``; the field says what trains, the name is for the log.

    Attributes:
        losses: What is trained, by learner; ``loss`` stands in each name, as mmengine's tools expect.
        monitors: What is only logged; without ``loss`` in the name.
        pauses: Roles that may not learn in this iteration: whether they pause, a bool scalar each.

    Raises:
        ValueError: If a name says something else than its field.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    monitors: dict[str, Tensor] = field(default_factory=dict)
    pauses: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for trains, keys in ((True, self.losses), (False, self.monitors)):
            for key in keys:
                if ('loss' in key.partition('.')[2]) != trains:
                    field_name = 'losses' if trains else 'monitors'
                    raise ValueError(f'{key!r} in {field_name}: name it <role>.<name>, with `loss` only in losses')


def is_loss(key: str) -> bool:
    """Whether an entry of a log trains, by the rule of stock mmengine; the role's name does not count."""
    return 'loss' in (key.partition('.')[2] or key)


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
