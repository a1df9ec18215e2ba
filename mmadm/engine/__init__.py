"""What drives the training: optimisers, hooks and loops."""

from mmadm.engine.hooks import (
    ChannelsLastHook,
    NonFiniteGuardHook,
    RoleCheckpointHook,
    RoleEMAHook,
    RoleHook,
    SimilarityVisHook,
    TeacherGuardHook,
)
from mmadm.engine.loops import RoleValLoop
from mmadm.engine.optim import AmpRoleOptimWrapperDict, RoleOptimWrapperConstructor, RoleOptimWrapperDict

__all__ = [
    'AmpRoleOptimWrapperDict',
    'ChannelsLastHook',
    'NonFiniteGuardHook',
    'RoleCheckpointHook',
    'RoleEMAHook',
    'RoleHook',
    'RoleOptimWrapperConstructor',
    'RoleOptimWrapperDict',
    'RoleValLoop',
    'SimilarityVisHook',
    'TeacherGuardHook',
]
