"""The mmengine models that hold the roles."""

from mmadm.algorithms.distillation import Distillation
from mmadm.algorithms.tokens import TokenTraining

__all__ = ['Distillation', 'TokenTraining']
