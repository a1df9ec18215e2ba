"""MaskFormer and Mask2Former of MMDetection, for panoptic and instance segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn

from mmadm.adapters.base import Adapter
from mmadm.adapters.detection import feats_path
from mmadm.adapters.query_maps import map_reading
from mmadm.adapters.taps import Reading
from mmadm.registry import ADAPTERS
from mmadm.structures import GroundTruth, RoleOutput, Tap
from mmadm.utils.versions import require

#: The id of pixels without a class, in panoptic data and where images are padded
IGNORED = 255


@ADAPTERS.register_module()
class MaskQueryAdapter(Adapter):
    """Runs a stock network that predicts a set of masks with a class each.

    ``logits`` is (N, K, h, w), what all queries together say of each pixel; K counts things and stuff. Modules inside
    the head can be tapped, too.

    Args:
        name: The role's name, for error messages.
        model: A detector with a ``panoptic_head`` and no RoI head.

    Raises:
        ImportError: If the installed mmdet is outside the range that mmadm knows.
    """

    priority: ClassVar[int] = 0

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Whether a network has a head of things and stuff, and no RoI head."""
        return hasattr(model, 'panoptic_head') and hasattr(model, 'backbone') and not hasattr(model, 'roi_head')

    def __init__(self, name: str, model: Any) -> None:
        require('mmdet')
        self._has_stuff = model.panoptic_head.num_stuff_classes > 0
        named = {'feats': Reading((feats_path(model),)), 'logits': map_reading('panoptic_head', self._has_stuff)}
        super().__init__(name, named)

    def truth(self, model: nn.Module, data_samples: list[Any]) -> GroundTruth:
        """The objects, and of panoptic data the class of each pixel."""
        found = super().truth(model, data_samples)
        if not self._has_stuff or not all('gt_sem_seg' in sample for sample in data_samples):
            return found
        labels = torch.stack([sample.gt_sem_seg.sem_seg.squeeze(0) for sample in data_samples])
        return replace(found, labels=labels.long(), ignore_index=IGNORED)

    def _probe(self, model: nn.Module, size: tuple[int, int], taps: Sequence[Tap]) -> RoleOutput:
        """Read taps on one blank image; where there is stuff every pixel has the first class."""
        found = super()._probe(model, size, taps)
        labels = torch.zeros(1, *size, dtype=torch.long) if self._has_stuff else None
        return replace(found, truth=replace(found.truth, labels=labels, ignore_index=IGNORED))

    def _lacks(self, model: nn.Module, tap: str) -> str:
        return (
            f'{type(model.panoptic_head).__name__} has no tap `{tap}`: the queries of two decoders do not correspond. '
            'Tap `logits`, what they say of each pixel, `feats` or a module path.'
        )

    def _class_channels(self, model: Any) -> int | None:
        return model.panoptic_head.num_classes

    def _run_heads(self, model: Any, features: Any, data_samples: list[Any] | None, parts: set[str]) -> None:
        if 'panoptic_head' in parts:
            model.panoptic_head(features, data_samples)
