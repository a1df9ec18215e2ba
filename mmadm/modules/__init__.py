"""Trainable or random parts that are neither a role nor a loss."""

from mmadm.modules.avatars import AvatarEnsemble
from mmadm.modules.connectors import Connector, resize_like
from mmadm.modules.context import GlobalContext
from mmadm.modules.first_stages import FirstStages
from mmadm.modules.fusion import FeatureFusion, LeaderTransform, SelfDistillation
from mmadm.modules.generation import GenerationBlock
from mmadm.modules.norms import Projection
from mmadm.modules.queue import ClassQueue
from mmadm.modules.review import ReviewFusion
from mmadm.modules.tokens import ReceptiveTokens

__all__ = [
    'AvatarEnsemble',
    'ClassQueue',
    'Connector',
    'FeatureFusion',
    'FirstStages',
    'GenerationBlock',
    'GlobalContext',
    'LeaderTransform',
    'Projection',
    'ReceptiveTokens',
    'ReviewFusion',
    'SelfDistillation',
    'resize_like',
]
