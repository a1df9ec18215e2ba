"""Hooks of a training."""

from mmadm.engine.hooks.checkpoint import RoleCheckpointHook
from mmadm.engine.hooks.guard import NonFiniteGuardHook
from mmadm.engine.hooks.memory_format import ChannelsLastHook

__all__ = ['ChannelsLastHook', 'NonFiniteGuardHook', 'RoleCheckpointHook']
