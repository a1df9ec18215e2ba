"""Let torch >= 2.6 read mmengine's checkpoints with ``weights_only`` kept on."""

from __future__ import annotations

from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer

# The log history in a checkpoint's `message_hub`: HistoryBuffer objects over NumPy arrays and scalars. NumPy 1 and 2
# store `_reconstruct` and `scalar` under different module names; torch matches the name it finds in the file.


def _history_method(owner: object, name: str) -> object:
    """Stand in for ``builtins.getattr``, by which a HistoryBuffer names its own statistics, and nothing else."""
    if owner is not HistoryBuffer:
        raise UnpicklingError(f'refused to read attribute {name!r} of {owner!r} from a checkpoint')
    return getattr(HistoryBuffer, name)


_multiarray = getattr(np, '_core', None) or np.core
_SAFE: list[object] = [
    HistoryBuffer,
    (_history_method, 'builtins.getattr'),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32', 'uint8', 'bool', 'uint64')},
]
for _name in ('_reconstruct', 'scalar'):
    _function = getattr(_multiarray.multiarray, _name)
    _SAFE += [_function, (_function, f'numpy.core.multiarray.{_name}'), (_function, f'numpy._core.multiarray.{_name}')]


def allow_mmengine_checkpoints() -> None:
    """Allow-list exactly what mmengine puts beside the tensors; safe to call twice."""
    torch.serialization.add_safe_globals(_SAFE)
