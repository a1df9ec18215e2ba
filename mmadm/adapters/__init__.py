"""The only code that knows the inside of mmseg and mmdet models."""

from __future__ import annotations

from torch import nn

from mmadm.adapters.base import Adapter
from mmadm.adapters.dense import DenseAdapter
from mmadm.adapters.detr import DetrAdapter
from mmadm.adapters.segmentation import SegmentationAdapter
from mmadm.adapters.two_stage import TwoStageAdapter
from mmadm.utils.errors import ConfigError


def build_adapter(name: str, model: nn.Module) -> Adapter:
    """Choose the adapter for a role by the parts of its model.

    Args:
        name: The role's name.
        model: The built network.

    Raises:
        ConfigError: If the model is neither an mmseg segmentor with a decode head nor an mmdet detector.
    """
    if hasattr(model, 'backbone'):
        if hasattr(model, 'decode_head'):
            return SegmentationAdapter(name, model)
        if hasattr(model, 'roi_head'):
            return TwoStageAdapter(name, model)
        if hasattr(model, 'bbox_head'):
            return DetrAdapter(name, model) if hasattr(model, 'encoder') else DenseAdapter(name, model)
    raise ConfigError(
        f'model.roles.{name}: {type(model).__name__} has no backbone with a decode_head, bbox_head or roi_head; roles '
        'are models of MMSegmentation such as EncoderDecoder, or of MMDetection such as RetinaNet.'
    )


__all__ = ['Adapter', 'DenseAdapter', 'DetrAdapter', 'SegmentationAdapter', 'TwoStageAdapter', 'build_adapter']
