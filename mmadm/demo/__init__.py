"""The demo: street scenes drawn by a program, and what trains, compares and reports on them."""

from importlib.util import find_spec

from mmadm.demo.streets import make_streets

__all__ = ['make_streets']

if find_spec('mmseg') is not None:  # with mmdet alone the streets can still be drawn
    from mmadm.demo.streets_dataset import StreetsDataset

    __all__ += ['StreetsDataset']
