"""The mmengine model that holds the roles."""

from mmadm.algorithms.distillation import Distillation

__all__ = ['Distillation']
