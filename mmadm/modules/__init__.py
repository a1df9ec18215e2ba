"""Trainable or random parts that are neither a role nor a loss."""

from mmadm.modules.avatars import AvatarEnsemble
from mmadm.modules.connectors import Connector, resize_like
from mmadm.modules.fusion import FeatureFusion, LeaderTransform, SelfDistillation
from mmadm.modules.generation import GenerationBlock
from mmadm.modules.tokens import ReceptiveTokens

__all__ = [
    'AvatarEnsemble',
    'Connector',
    'FeatureFusion',
    'GenerationBlock',
    'LeaderTransform',
    'ReceptiveTokens',
    'SelfDistillation',
    'resize_like',
]
