"""Where a program waits for the device: a number, a size or a copy on the host that depends on a result."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
#: What needs a value on the host, or gives a tensor of a size that only the values tell
_WAITING = {aten._local_scalar_dense, aten.equal, aten.masked_select, aten.nonzero, aten._unique2, aten.unique_dim}
PACKAGES = ('mmadm', 'mmseg', 'mmdet', 'mmengine', 'mmcv')

Places = Counter


class HostReads(TorchDispatchMode):
    """Counts what would make a program wait for a GPU, on any device.

    Attributes:
        places: How often, by place: ``mmadm/algorithms/paused_roles.py:34 undo_paused``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: Places = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note a call that waits; run every call."""
        if func.overloadpacket in _WAITING or _chooses(func, args) or _copies(func, args):
            self.places[innermost_place()] += 1
        return func(*args, **(kwargs or {}))


def _chooses(func: Any, args: Sequence[Any]) -> bool:
    """Whether a tensor is indexed by a bool mask, which has to be counted first."""
    if func.overloadpacket not in (aten.index, aten.index_put, aten.index_put_) or not isinstance(
        args[1], list | tuple
    ):
        return False
    masks = [index for index in args[1] if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)]
    # one value for all of them is filled in place, without counting
    fills = func.overloadpacket is not aten.index and args[2].numel() == 1
    return bool(masks) and not fills


def _copies(func: Any, args: Sequence[Any]) -> bool:
    """Whether a list of the host becomes a tensor, which a GPU waits for; a single number goes along with a kernel."""
    return func.overloadpacket is aten.lift_fresh and args[0].dim() > 0


@contextmanager
def waits(device: torch.device) -> Iterator[Places]:
    """Count waits in the block: on a GPU what CUDA reports, on a CPU what would be one.

    Args:
        device: Where the work is done.

    Yields:
        How often by place; complete when the block ends.
    """
    if device.type != 'cuda':
        with HostReads() as counter:
            yield counter.places
        return
    places: Places = Counter()

    def note(message: Any, *_args: Any, **_kwargs: Any) -> None:
        """Count a warning of CUDA's."""
        if 'synchronizing' in str(message):
            places[innermost_place()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter('always')
        warnings.showwarning = note  # restored by catch_warnings
        torch.cuda.set_sync_debug_mode('warn')
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode('default')


def innermost_place() -> str:
    """The innermost line of the toolboxes or of mmadm that is running, this file apart."""
    # by where the packages lie: a checkout may be called like one of them and hold an environment
    found = [(package, sys.modules[package].__file__ or '') for package in PACKAGES if package in sys.modules]
    folders = [(package, f'{os.path.dirname(file)}{os.sep}') for package, file in found]
    for frame, line in traceback.walk_stack(sys._getframe(1)):
        name = frame.f_code.co_filename
        for package, folder in folders:
            if name.startswith(folder) and name != __file__:
                return f'{package}/{Path(name[len(folder) :]).as_posix()}:{line} {frame.f_code.co_name}'
    return 'elsewhere'
