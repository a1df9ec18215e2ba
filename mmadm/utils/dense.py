"""What is known of a single-stage detector: what its assigner made of a batch, and what its head can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DenseTargets:
    """What a single-stage detector's own assigner made of a batch, as its stock loss saw it.

    Attributes:
        positives: Number of positive priors: the mean over ranks, at least 1.
        labels: Of each level class ids (N * A, h, w), of the background the number of classes; None where a head's
            loss does not tell them prior by prior.
        weights: Of each level the weights (N * A, h, w) of the class loss, 0 where a prior is ignored; None likewise.
        centerness: Of FCOS the sum of the positives' centerness targets, on this rank; None of other heads.
    """

    positives: Tensor
    labels: list[Tensor] | None = None
    weights: list[Tensor] | None = None
    centerness: Tensor | None = None


@dataclass(frozen=True)
class CrossHead:
    """How features inside a head go on to its predictions.

    Attributes:
        family: Name of the stock head.
        widths: Channels of the features (classes, boxes) that enter each convolution, the output layers at the end.
        scores: Makes class scores (N * A, K, h, w) of each level from the index of a convolution and what enters it.
        boxes: Makes maps of the tap ``boxes`` likewise, and of ATSS centerness (N, A, h, w) beside them.
        centerness: Module path that puts out the role's own centerness; None where there is none to compare.
    """

    family: str
    widths: Sequence[tuple[int, int]]
    scores: Callable[[int, Sequence[Tensor]], list[Tensor]]
    boxes: Callable[[int, Sequence[Tensor]], tuple[list[Tensor], ...]]
    centerness: str | None = None


@dataclass(frozen=True)
class DenseHead:
    """What the head of a single-stage detector can do beside its forward pass.

    Attributes:
        priors: Of maps (h, w) of each level, the priors by row, column and number: boxes (P, 4) or points (P, 2).
        decode: Turns maps of the tap ``boxes`` into boxes (N * A, 4, h, w) in pixels of the role's input.
        cross: See :class:`CrossHead`; None if the head's layers are not those of RetinaNet, FCOS, ATSS or GFL.
    """

    priors: Callable[[Sequence[tuple[int, int]], torch.device], list[Tensor]]
    decode: Callable[[Sequence[Tensor]], list[Tensor]]
    cross: CrossHead | None = None
