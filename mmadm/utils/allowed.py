"""What a checkpoint may hold beside tensors, and why a file was not read.

``torch.load`` with ``weights_only`` makes nothing but the classes on its list, so that a file cannot run code. On
import this module adds what mmengine and its users put into checkpoints.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer


def _history_method(owner: type, name: str) -> Any:
    """Stand in for ``getattr``, by which a pickled ``HistoryBuffer`` names its own methods.

    The builtin on the list would let a file reach any code, so this gives nothing but those methods.
    """
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r})')
    return getattr(HistoryBuffer, name)


def _allowed() -> Iterator[tuple[Any, str]]:
    """Objects and the names by which files ask for them.

    All by name, also where torch would find the name itself: the mmengine of the onedl forks takes off the list again
    what it has put there without one.
    """
    yield _history_method, 'builtins.getattr'
    yield bytes, 'builtins.bytes'  # what an array without elements holds
    for known in (HistoryBuffer, ConfigDict, np.ndarray, np.dtype):
        yield known, f'{known.__module__}.{known.__name__}'
    make: Any
    # the functions by which pickle makes an array and a number; NumPy 2 has renamed their module
    for make in (np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]):
        for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
            yield make, f'{module}.{make.__name__}'
    for code in np.typecodes['All']:
        kind = np.dtype(code)
        # with objects (O) and records (V) in an array a file could forge pointers
        if kind.kind not in 'OV':
            yield type(kind), f'{type(kind).__module__}.{type(kind).__name__}'
            yield kind.type, f'numpy.{kind.type.__name__}'
    yield from ((np.bool_, f'numpy.{name}') for name in ('bool', 'bool_'))  # of NumPy 2 and 1


torch.serialization.add_safe_globals([*_allowed()])


@contextmanager
def weights_only() -> Iterator[None]:
    """Let every ``torch.load`` in the block keep to the list, also that of ``torch.hub``, which by itself does not."""
    names = ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ[names[0]] = '1'
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update(before)


def why_unreadable(error: Exception, path: str) -> str:
    """Say why a file was not read.

    Args:
        error: What ``torch.load``, zipfile, pickle or urllib have raised.
        path: The file, for the way out.

    Returns:
        The rest of a sentence that begins with the file.
    """
    text = str(error)
    found = re.search(r"GLOBAL (\S+)|got <class '([^']+)'|unrecognized function (.+?)(?: which|\n|$)|(getattr)\(", text)
    if isinstance(error, pickle.UnpicklingError) and found:
        what = next(filter(None, found.groups()))
        recipe = (
            f"import torch; c = torch.load({path!r}, map_location='cpu', weights_only=False); "
            "torch.save({'meta': {}, 'state_dict': c.get('state_dict', c)}, 'weights.pth')"
        )
        return (
            f'holds {what}, and such a class is not loaded because it could run code. If you trust the file, take its '
            f'weights alone: python -c "{recipe}"'
        )
    what = 'cannot be read' if isinstance(error, OSError) else 'is truncated or not a checkpoint'
    if not isinstance(error, OSError | RuntimeError) or 'weights_only' in text:  # what pickle stumbles on says nothing
        return f'{what}: it is no file that torch.save wrote to its end'
    return f'{what} ({type(error).__name__}: {text.strip().partition(chr(10))[0][:200]})'
