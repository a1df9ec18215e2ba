"""One method per file. Only this package detaches (law 1)."""

from mmadm.distillers.adm import ADM
from mmadm.distillers.base import Distiller, Edge
from mmadm.distillers.mutual import MutualLearning
from mmadm.distillers.transfer import Transfer

__all__ = ['ADM', 'Distiller', 'Edge', 'MutualLearning', 'Transfer']
