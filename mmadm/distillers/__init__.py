"""One method per file. Only this package detaches (law 1)."""

from mmadm.distillers.adm import ADM
from mmadm.distillers.base import Distiller
from mmadm.distillers.bckd import BCKD
from mmadm.distillers.cirkd import CIRKD
from mmadm.distillers.crosskd import CrossKD
from mmadm.distillers.ffsd import FFSD
from mmadm.distillers.fgd import FGD
from mmadm.distillers.kdcl import KDCL
from mmadm.distillers.ld import LD
from mmadm.distillers.mutual import MutualLearning
from mmadm.distillers.pairs import Edge
from mmadm.distillers.reviewkd import ReviewKD
from mmadm.distillers.sokd import SOKD
from mmadm.distillers.switokd import SwitOKD
from mmadm.distillers.transfer import Transfer

__all__ = [
    'ADM',
    'BCKD',
    'CIRKD',
    'FFSD',
    'FGD',
    'KDCL',
    'LD',
    'SOKD',
    'CrossKD',
    'Distiller',
    'Edge',
    'MutualLearning',
    'ReviewKD',
    'SwitOKD',
    'Transfer',
]
