"""Several networks of MMSegmentation or MMDetection learn together, or from frozen ones, in one training run."""

from mmadm.utils.versions import check_versions
from mmadm.version import __version__

__all__ = ['__version__']

check_versions()
