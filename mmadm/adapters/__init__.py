"""The only code that knows the inside of networks."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmadm.adapters.base import Adapter
from mmadm.adapters.classification import ClassificationAdapter
from mmadm.adapters.dense import DenseAdapter
from mmadm.adapters.detr import DetrAdapter
from mmadm.adapters.feature_teacher import FeatureTeacher, FeatureTeacherAdapter
from mmadm.adapters.generic import GenericAdapter
from mmadm.adapters.image_text import ImageTextAdapter
from mmadm.adapters.mask_queries import MaskQueryAdapter
from mmadm.adapters.segmentation import SegmentationAdapter
from mmadm.adapters.two_stage import TwoStageAdapter
from mmadm.adapters.unsuited import refuse_unsuited
from mmadm.registry import ADAPTERS
from mmadm.utils.errors import ConfigError


def build_adapter(name: str, model: nn.Module) -> Adapter:
    """Choose the adapter for a role: of those that fit its network the one with the highest priority.

    Args:
        name: The role's name.
        model: The built network.

    Raises:
        ConfigError: If none fits, as for a network that is no model of mmengine.
    """
    fitting: list[Any] = [kind for kind in ADAPTERS.module_dict.values() if kind.fits(model)]
    if fitting:
        best = max(reversed(fitting), key=lambda kind: kind.priority)  # the first of equals, so the last registered
        return best(name, model)
    raise ConfigError(
        f'model.roles.{name}: {type(model).__name__} is no mmengine.model.BaseModel, and no adapter fits it: derive it '
        'from that class, or register an adapter of its own (docs/your_own_models.md)'
    )


__all__ = [
    'Adapter',
    'ClassificationAdapter',
    'DenseAdapter',
    'DetrAdapter',
    'FeatureTeacher',
    'FeatureTeacherAdapter',
    'GenericAdapter',
    'ImageTextAdapter',
    'MaskQueryAdapter',
    'SegmentationAdapter',
    'TwoStageAdapter',
    'build_adapter',
    'refuse_unsuited',
]
