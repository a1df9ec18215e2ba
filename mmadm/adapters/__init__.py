"""The only code that knows the inside of mmseg and mmdet models."""

from __future__ import annotations

from torch import nn

from mmadm.adapters.segmentation import SegmentationAdapter
from mmadm.utils.errors import ConfigError


def build_adapter(name: str, model: nn.Module) -> SegmentationAdapter:
    """Choose the adapter for a role by the class of its model.

    Args:
        name: The role's name.
        model: The built network.

    Raises:
        ConfigError: If the model is not an mmseg segmentor with a decode head.
    """
    if hasattr(model, 'decode_head') and hasattr(model, 'backbone'):
        return SegmentationAdapter(name, model)
    raise ConfigError(
        f'model.roles.{name}: {type(model).__name__} has no backbone and decode_head; roles are MMSegmentation models '
        'such as EncoderDecoder.'
    )


__all__ = ['SegmentationAdapter', 'build_adapter']
