"""Load a role's checkpoint with an error that says what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmadm.utils import checkpoint as _allow_list  # noqa: F401  on import torch learns what mmengine saves
from mmadm.utils.errors import CheckpointError


def read_weights(path: str, where: str) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Read the weights of a checkpoint file or URL and what it says of its training.

    Args:
        path: Local path, URL or any scheme that mmengine's loader knows.
        where: The config key to name in an error, such as ``model.roles.teacher.checkpoint``.

    Returns:
        Tensors by name, without a ``module.`` prefix, and the entry ``meta``, empty if there is none.

    Raises:
        CheckpointError: If the file is missing, truncated, unreachable or holds no weights.
    """
    try:
        loaded = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    except FileNotFoundError as error:
        raise CheckpointError(f'{where}={path!r}: no such file. Give an existing checkpoint or a URL.') from error
    except Exception as error:  # torch, zipfile, pickle and urllib each raise their own kind
        raise CheckpointError(
            f'{where}={path!r} cannot be read ({type(error).__name__}: {str(error).splitlines()[0][:200]}). '
            'The file may be truncated, or the network missing: pass the path of a complete local file.'
        ) from error
    state = loaded.get('state_dict', loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f'{where}={path!r} holds no state_dict.')
    meta = loaded.get('meta') if 'state_dict' in loaded else None
    weights = {key.removeprefix('module.'): value for key, value in state.items()}
    return weights, meta if isinstance(meta, Mapping) else {}


def read_state_dict(path: str, where: str) -> dict[str, Tensor]:
    """Read only the weights, see :func:`read_weights`."""
    return read_weights(path, where)[0]


def load_role_weights(model: nn.Module, path: str, where: str) -> Mapping[str, Any]:
    """Load a checkpoint into a stock model, strictly.

    Args:
        model: The role's network.
        path: See :func:`read_weights`.
        where: The config key to name in an error.

    Returns:
        What the checkpoint says of its training.

    Raises:
        CheckpointError: If it cannot be read, or if any key is missing, unexpected or of another shape.
    """
    state, meta = read_weights(path, where)
    own = model.state_dict()
    reshaped = [key for key in state if key in own and state[key].shape != own[key].shape]
    missing, unexpected = model.load_state_dict({k: v for k, v in state.items() if k not in reshaped}, strict=False)
    missing = [key for key in missing if key not in reshaped and not key.endswith('num_batches_tracked')]
    if not (missing or unexpected or reshaped):
        return meta
    hint = (
        ' It is a full mmadm checkpoint: export one role with tools/export.py first.'
        if any(key.startswith('roles.') for key in unexpected)
        else ' It was made for another architecture.'
    )
    raise CheckpointError(
        f'{where}={path!r}: of {len(own)} keys {len(missing)} are missing, {len(unexpected)} unexpected and '
        f'{len(reshaped)} of another shape (for example {[*missing, *unexpected, *reshaped][:3]}).{hint}'
    )
