"""What the stock packages lack: CamVid, and data sets that say what is missing."""

from importlib.util import find_spec

__all__ = []

if find_spec('mmseg') is not None:
    from mmadm.datasets.segmentation import CamVidDataset, CheckedSegDataset

    __all__ += ['CamVidDataset', 'CheckedSegDataset']
