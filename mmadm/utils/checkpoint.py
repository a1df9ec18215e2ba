"""Checkpoint files: read with an error that says what is wrong, written so that a crash cannot tear them."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmadm.utils.errors import CheckpointError

#: What a checkpoint must hold so that training can go on from it
RESUMABLE = ('meta', 'state_dict', 'message_hub', 'optimizer')
#: End of the name of a file that is being written
_ASIDE = '.tmp'


def _history_method(owner: type, name: str) -> Any:
    """Stand in for ``getattr``, by which a pickled ``HistoryBuffer`` names its own methods.

    The builtin on the allow-list would let a file reach any code, so this gives nothing but those methods.
    """
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r})')
    return getattr(HistoryBuffer, name)


# torch.load refuses classes it does not know, and mmengine's log history consists of these. The two functions by which
# pickle makes an array and a number have moved between NumPy versions, so NumPy itself is asked for them.
_HISTORY = [
    HistoryBuffer,
    (_history_method, 'builtins.getattr'),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)),
    np.empty(0).__reduce__()[0],
    np.float64(0).__reduce__()[0],
]
torch.serialization.add_safe_globals(_HISTORY)  # for mmengine's own loader


def read_checkpoint(path: str | Path, needed: Iterable[str] = ('meta', 'state_dict')) -> dict[str, Any]:
    """Read a local checkpoint to the CPU; only classes on torch's allow-list are loaded.

    Args:
        path: File.
        needed: Keys that must be there; ``RESUMABLE`` for a checkpoint to resume from.

    Returns:
        The checkpoint. Its tensors may be mapped from the file.

    Raises:
        CheckpointError: If the file is missing, truncated, no checkpoint, or lacks a key.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'{path}: no such checkpoint')
    is_archive = zipfile.is_zipfile(path)
    # again: after each load the mmengine of the onedl forks takes what it needed from the list of all
    torch.serialization.add_safe_globals(_HISTORY)
    try:
        # mapping spares the memory; files in torch's old format cannot be mapped
        checkpoint: dict[str, Any] = torch.load(path, map_location='cpu', weights_only=True, mmap=is_archive)
    except Exception as error:  # torch, zipfile and pickle each raise their own kind
        if is_archive and isinstance(error, pickle.UnpicklingError):
            refused = re.search(r'GLOBAL (\S+) was not an allowed', str(error))
            what = f'a {refused[1]}' if refused else 'a function call'
            raise CheckpointError(f'{path} holds {what}, which torch refuses to load for safety') from error
        reason = str(error).strip().partition('\n')[0]
        raise CheckpointError(
            f'{path} is truncated or not a checkpoint ({type(error).__name__}: {reason[:200]})'
        ) from error
    lacking = [key for key in needed if not isinstance(checkpoint, Mapping) or key not in checkpoint]
    if lacking:
        hint = ''
        if 'optimizer' in lacking:
            hint = '; training can only go on from a full checkpoint (iter_N.pth), this one fits `load_from`'
        raise CheckpointError(f'{path} holds no {" and no ".join(map(repr, lacking))}{hint}')
    return checkpoint


def write_atomically(data: bytes, path: str | Path) -> None:
    """Write a file such that the old content stays until the new is complete and on disk.

    Args:
        data: The whole content.
        path: Target; its folder is made if need be.

    Raises:
        OSError: If it cannot be written; then nothing has changed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder, as a rename is atomic only within a file system
    aside = path.with_name(f'{path.name}{_ASIDE}')
    try:
        with aside.open('wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if os.name == 'posix':  # after a power cut the rename counts only if the folder was flushed too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(folder: str | Path) -> None:
    """Remove what a process that was killed in :func:`write_atomically` left of its checkpoints in a folder."""
    for path in Path(folder).glob(f'*.pth{_ASIDE}'):
        path.unlink(missing_ok=True)


def write_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Save a checkpoint with :func:`write_atomically`.

    Args:
        checkpoint: Anything ``torch.save`` takes.
        path: Target.

    Raises:
        OSError: If it cannot be written.
    """
    with io.BytesIO() as buffer:
        torch.save(checkpoint, buffer)
        write_atomically(buffer.getvalue(), path)


def newest_checkpoint(work_dir: str | Path) -> Path | None:
    """Find what to resume from: the newest checkpoint of a work dir that is complete.

    mmengine notes the newest in the file ``last_checkpoint``. That file is written in place, so a crash can leave it
    empty or cut off, and its path is wrong once the work dir was moved: then the times of the files decide.

    Args:
        work_dir: Work dir of a training.

    Returns:
        A checkpoint that can be resumed from; None if there is no checkpoint.

    Raises:
        CheckpointError: If there are checkpoints but none can be used; a new start would overwrite them.
    """
    work_dir = Path(work_dir)
    found = [path for path in work_dir.glob('*.pth') if re.fullmatch(r'(iter|epoch)_\d+\.pth', path.name)]
    candidates = sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    note = work_dir / 'last_checkpoint'
    named = Path(note.read_text().strip()) if note.is_file() else None
    if named is not None and named.is_file():
        candidates.insert(0, named)
    errors = []
    for path in candidates:
        try:
            read_checkpoint(path, RESUMABLE)
            return path
        except CheckpointError as error:
            errors.append(str(error))
    if errors:
        raise CheckpointError(f'no checkpoint in {work_dir} can be resumed from: {errors[0]}')
    return None


def check_same_tensors(own: Mapping[str, Tensor], loaded: Mapping[str, Tensor], path: str | Path) -> None:
    """Check that a checkpoint was made for a model.

    Args:
        own: ``state_dict`` of the model.
        loaded: ``state_dict`` of the checkpoint.
        path: The checkpoint, for the error.

    Raises:
        CheckpointError: If names or shapes differ; says how many.
    """
    missing = [key for key in own if key not in loaded]
    unexpected = [key for key in loaded if key not in own]
    reshaped = [key for key in own if key in loaded and own[key].shape != loaded[key].shape]
    if missing or unexpected or reshaped:
        raise CheckpointError(
            f'{path} is of another architecture: of the {len(own)} tensors of this model {len(missing)} are missing '
            f'and {len(reshaped)} have another shape, {len(unexpected)} are unknown '
            f'(for example {", ".join([*missing, *reshaped, *unexpected][:3])})'
        )
