"""Losses as registered modules on explicit tensors."""

from mmadm.losses.attention import AttentionTransfer
from mmadm.losses.base import DistillationLoss
from mmadm.losses.cwd import ChannelWiseDivergence
from mmadm.losses.dist import DIST
from mmadm.losses.dkd import DecoupledKL
from mmadm.losses.hint import HintMSE
from mmadm.losses.kl import KLDivergence
from mmadm.losses.maskd import MaskedTokens
from mmadm.losses.mgd import MaskedGeneration
from mmadm.losses.pkd import PearsonDistance

__all__ = [
    'DIST',
    'AttentionTransfer',
    'ChannelWiseDivergence',
    'DecoupledKL',
    'DistillationLoss',
    'HintMSE',
    'KLDivergence',
    'MaskedGeneration',
    'MaskedTokens',
    'PearsonDistance',
]
