"""Segmentors of MMSegmentation with an encoder of images and one of text: SAN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmadm.adapters.base import Adapter
from mmadm.adapters.taps import Reading, maps_first
from mmadm.registry import ADAPTERS
from mmadm.structures import GroundTruth, RoleOutput, Tap
from mmadm.utils.errors import ConfigError
from mmadm.utils.versions import require


@ADAPTERS.register_module()
class ImageTextAdapter(Adapter):
    """Runs a stock segmentor that compares masks with texts; ``feats`` are the maps of its encoder of images.

    Args:
        name: The role's name, for error messages.
        model: A ``MultimodalEncoderDecoder``.

    Raises:
        ImportError: If the installed mmseg is outside the range that mmadm knows.
    """

    priority: ClassVar[int] = 0

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Whether a network has both encoders and a decode head."""
        return all(hasattr(model, part) for part in ('image_encoder', 'text_encoder', 'decode_head'))

    def __init__(self, name: str, model: nn.Module) -> None:
        require('mmseg')
        super().__init__(name, {'feats': Reading(('image_encoder',), maps_first)})

    def truth(self, model: Any, data_samples: list[Any]) -> GroundTruth:
        """The label of each pixel."""
        labels = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples])
        return GroundTruth(labels, model.decode_head.ignore_index)

    def _probe(self, model: Any, size: tuple[int, int], taps: Sequence[Tap]) -> RoleOutput:
        """Read taps on one blank image; every pixel has the first class."""
        found = super()._probe(model, size, taps)
        return replace(found, truth=GroundTruth(torch.zeros(1, *size).long(), model.decode_head.ignore_index))

    def _lacks(self, model: Any, tap: str) -> str:
        return (
            f'{type(model.decode_head).__name__} has no tap `{tap}`: it scores masks of its own by texts; tap `feats` '
            'or a module inside image_encoder'
        )

    def _run(self, model: Any, inputs: Tensor, data_samples: list[Any] | None, taps: Sequence[Tap]) -> None:
        """Run the encoder of images, on images of the size that stock gives it."""
        for path in self.paths(model, taps):
            if path.partition('.')[0] != 'image_encoder':
                raise ConfigError(
                    f'role {self.name!r}: {path!r} depends on texts, which roles do not share; tap `feats` or a module '
                    'inside image_encoder'
                )
        if model.asymetric_input:
            inputs = interpolate(inputs, scale_factor=model.encoder_resolution, mode='bilinear')
        model.image_encoder(inputs)
