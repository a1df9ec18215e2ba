"""Hooks of a training."""

from mmadm.engine.hooks.checkpoint import RoleCheckpointHook
from mmadm.engine.hooks.guard import NonFiniteGuardHook

__all__ = ['NonFiniteGuardHook', 'RoleCheckpointHook']
