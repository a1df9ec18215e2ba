"""Losses as registered modules on explicit tensors."""

from mmadm.losses.kl import KLDivergence

__all__ = ['KLDivergence']
