"""What the stock packages lack: CamVid, and street scenes drawn by a program."""

from importlib.util import find_spec

from mmadm.datasets.streets import make_streets

__all__ = ['make_streets']

if find_spec('mmseg') is not None:  # with mmdet alone the streets can still be drawn
    from mmadm.datasets.segmentation import CamVidDataset, CheckedSegDataset, StreetsDataset

    __all__ += ['CamVidDataset', 'CheckedSegDataset', 'StreetsDataset']
