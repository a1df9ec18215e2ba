"""Hooks of a training."""

from mmadm.engine.hooks.checkpoint import RoleCheckpointHook
from mmadm.engine.hooks.ema import RoleEMAHook
from mmadm.engine.hooks.guard import NonFiniteGuardHook
from mmadm.engine.hooks.memory_format import ChannelsLastHook
from mmadm.engine.hooks.role_hook import RoleHook
from mmadm.engine.hooks.similarity_vis import SimilarityVisHook
from mmadm.engine.hooks.teacher import TeacherGuardHook

__all__ = [
    'ChannelsLastHook',
    'NonFiniteGuardHook',
    'RoleCheckpointHook',
    'RoleEMAHook',
    'RoleHook',
    'SimilarityVisHook',
    'TeacherGuardHook',
]
