"""Transformer detectors: Deformable DETR, DINO and their kin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from mmadm.adapters.base import Adapter
from mmadm.adapters.detection import feats_path
from mmadm.adapters.taps import Reading
from mmadm.registry import ADAPTERS
from mmadm.structures import Tap
from mmadm.utils.errors import ConfigError
from mmadm.utils.versions import require


@ADAPTERS.register_module()
class DetrAdapter(Adapter):
    """Runs a stock detection transformer; taps in its encoder give one map (N, C, h, w) for each level.

    Queries of two decoders do not correspond, so there are no ``logits`` and ``boxes``.

    Args:
        name: The role's name, for error messages.
        model: A detector with an ``encoder``.

    Raises:
        ImportError: If the installed mmdet is outside the range that mmadm knows.
    """

    priority: ClassVar[int] = 0

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Whether a network has an encoder between backbone and head."""
        return all(hasattr(model, part) for part in ('backbone', 'encoder', 'bbox_head'))

    def __init__(self, name: str, model: nn.Module) -> None:
        require('mmdet')
        super().__init__(name, {'feats': Reading((feats_path(model),))})

    def reading(self, model: nn.Module, tap: Tap) -> Reading:
        """Find what a tap stands for; see :meth:`Adapter.reading`."""
        found = super().reading(model, tap)
        return replace(found, read=_token_maps) if found.paths[0].startswith('encoder') else found

    def _lacks(self, model: nn.Module, tap: str) -> str:
        return (
            f'{type(model.bbox_head).__name__} has no tap `{tap}`: the queries of two decoders do not correspond. '
            'Heads with class maps (RetinaHead, FCOSHead, ATSSHead, GFLHead, RTMDetHead, ...) and RoI heads have it. '
            'Tap `feats`, `encoder` or a module path.'
        )

    def _run_heads(self, model: Any, features: Any, data_samples: list[Any] | None, parts: set[str]) -> None:
        if parts <= {'backbone', 'neck'}:
            return
        if 'encoder' not in parts or parts - {'backbone', 'neck', 'encoder'}:
            wrong = sorted(parts - {'backbone', 'neck', 'encoder'})
            raise ConfigError(
                f'role {self.name!r}: {wrong[0]!r} works on queries, which do not correspond between roles; tap '
                '`feats`, `encoder` or modules inside backbone, neck and encoder.'
            )
        model.forward_encoder(**model.pre_transformer(features, data_samples)[0])


def _token_maps(_args: Any, kwargs: Any, output: Any) -> list[Tensor]:
    """Cut tokens (N, L, C) of all levels into maps (N, C, h, w)."""
    if 'spatial_shapes' not in kwargs:
        raise ConfigError(
            'tap the encoder as a whole or one of its layers, of a detector whose encoder works on feature levels '
            '(Deformable DETR, DINO, ...); else tap `feats`'
        )
    shapes = kwargs['spatial_shapes'].tolist()
    parts = output.split([h * w for h, w in shapes], dim=1)
    return [part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]
