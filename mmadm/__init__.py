"""Several networks of MMSegmentation or MMDetection learn together, or from frozen ones, in one training run."""

import os

from mmadm.utils.versions import check_versions
from mmadm.version import __version__

__all__ = ['__version__']

check_versions()
# mmengine pastes the variable into the text of a config, where the backslashes of a Windows path would escape
if '\\' in os.environ.get('MMADM_DATA', ''):
    os.environ['MMADM_DATA'] = os.environ['MMADM_DATA'].replace('\\', '/')
