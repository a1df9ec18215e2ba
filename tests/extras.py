"""Packages that some tests need beside the stack: `make extras` puts them into .extras."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / '.extras'
#: keeps the operators defined
_LIBRARY = torch.library.Library('torchvision', 'FRAGMENT')


def use(*names):
    """Skip a test file unless packages can be imported."""
    if FOLDER.is_dir() and str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    try:
        import_module('torchvision')
    except ImportError:
        pass
    except RuntimeError:
        # one for GPUs beside a torch without: nothing here calls its operators, but their names must be known
        for name in ('nms', 'qnms'):
            _LIBRARY.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    for name in names:
        pytest.importorskip(name)
