"""Optimisers per role."""

from mmadm.engine.optim.amp import AmpRoleOptimWrapperDict, ScaledOptimWrapper
from mmadm.engine.optim.constructor import RoleOptimWrapperConstructor
from mmadm.engine.optim.wrapper import RoleOptimWrapperDict

__all__ = ['AmpRoleOptimWrapperDict', 'RoleOptimWrapperConstructor', 'RoleOptimWrapperDict', 'ScaledOptimWrapper']
