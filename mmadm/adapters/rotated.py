"""Boxes with an angle, of MMRotate: a region has six numbers where RoIAlignRotated reads it, else five."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmadm.structures import Size


def of_one_kind(head: Any) -> bool:
    """Whether all stages of a RoI head take boxes of one kind; those of RoI Transformer do not."""
    return len(_kinds(head)) <= 1


def whole_image(head: Any, size: Size) -> list[float]:
    """The region that is all of the first image, as a RoI head takes it: index and box, with an angle or without.

    Args:
        head: A stock RoI head.
        size: Height and width of the image.
    """
    height, width = size
    return [0.0, width / 2, height / 2, width, height, 0.0] if True in _kinds(head) else [0.0, 0.0, 0.0, width, height]


def _kinds(head: Any) -> set[bool]:
    """Whether the stages of a RoI head take boxes with an angle."""
    extractors: Any = head.bbox_roi_extractor
    stages: list[Any] = list(extractors) if isinstance(extractors, nn.ModuleList) else [extractors]
    return {type(layer).__name__ == 'RoIAlignRotated' for stage in stages for layer in stage.roi_layers}
