"""Trainable or random parts that are neither a role nor a loss."""

from mmadm.modules.avatars import AvatarEnsemble
from mmadm.modules.connectors import Connector, resize_like
from mmadm.modules.generation import GenerationBlock
from mmadm.modules.tokens import ReceptiveTokens

__all__ = ['AvatarEnsemble', 'Connector', 'GenerationBlock', 'ReceptiveTokens', 'resize_like']
