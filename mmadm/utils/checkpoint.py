"""Checkpoint files: read with an error that says what is wrong, written so that a crash cannot tear them."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.utils.allowed import why_unreadable
from mmadm.utils.errors import CheckpointError, first_of

#: What a checkpoint must hold so that training can go on from it
RESUMABLE = ('meta', 'state_dict', 'message_hub', 'optimizer')
#: mmengine's note of the newest checkpoint
NOTE = 'last_checkpoint'
#: End of the name of a file that is being written
_ASIDE = '.tmp'


def read_checkpoint(path: str | Path, needed: Iterable[str] = ('meta', 'state_dict')) -> dict[str, Any]:
    """Read a local checkpoint to the CPU; only classes on torch's list are loaded, see :mod:`mmadm.utils.allowed`.

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
    try:
        # mapping spares the memory; files in torch's old format cannot be mapped
        mapped = zipfile.is_zipfile(path)
        checkpoint: dict[str, Any] = torch.load(path, map_location='cpu', weights_only=True, mmap=mapped)
    except Exception as error:  # torch, zipfile and pickle each raise their own kind
        raise CheckpointError(f'{path} {why_unreadable(error, str(path))}') from error
    needed = list(needed)
    lacking = [key for key in needed if not isinstance(checkpoint, Mapping) or key not in checkpoint]
    if lacking:
        hint = ''
        if 'optimizer' in lacking:
            hint = '; training can only go on from a full checkpoint (iter_N.pth), this one fits `load_from`'
        raise CheckpointError(f'{path} holds no {" and no ".join(map(repr, lacking))}{hint}')
    for key in needed:
        entry, tensors = checkpoint[key], key == 'state_dict'
        if not (are_weights(entry) if tensors else isinstance(entry, Mapping)):
            kind = 'tensors by name' if tensors else 'a dict'
            raise CheckpointError(f'{path}: its {key!r} is not {kind}, so it is no checkpoint of a training')
    return checkpoint


def are_weights(entry: Any) -> bool:
    """Whether an entry of a checkpoint maps names to tensors."""
    return isinstance(entry, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in entry.items())


def write_atomically(data: bytes, path: str | Path) -> None:
    """Write a file such that the old content stays until the new is complete and on disk.

    Args:
        data: The whole content.
        path: Target; its folder is made if need be.

    Raises:
        OSError: If it cannot be written; then nothing has changed. Names the file.
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
    except BaseException as error:
        with suppress(OSError):  # of a folder that has become read-only
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):  # a write by itself does not say where
            raise OSError(error.errno, error.strerror, str(path)) from error
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


def noted_checkpoint(note: Path) -> Path | None:
    """The file that a note of mmengine's names; None if there is no such file, or the note is torn or something else.

    Args:
        note: The file ``last_checkpoint`` of a work dir.
    """
    with suppress(OSError, ValueError):  # a folder, a link that leads nowhere, a checkpoint, or what no path can be
        if note.is_file() and (named := Path(note.read_text(encoding='utf-8').strip())).is_file():
            return named
    return None


def newest_checkpoint(work_dir: str | Path, needed: Iterable[str] = RESUMABLE) -> Path | None:
    """Find the newest checkpoint of a work dir that is complete, by default one to resume from.

    mmengine notes the newest in the file ``last_checkpoint``. That file is written in place, so a crash can leave it
    empty or cut off, and its path is wrong once the work dir was moved: then the times of the files decide.

    Args:
        work_dir: Work dir of a training.
        needed: Keys that it must hold.

    Returns:
        The checkpoint; None if there is no checkpoint.

    Raises:
        CheckpointError: If there are checkpoints but none can be used; a new start would overwrite them.
    """
    work_dir = Path(work_dir)
    found = [path for path in work_dir.glob('*.pth') if re.fullmatch(r'(iter|epoch)_\d+\.pth', path.name)]
    # a link may lead nowhere
    candidates = sorted(found, key=lambda path: path.stat().st_mtime_ns if path.exists() else 0, reverse=True)
    named = noted_checkpoint(work_dir / NOTE)
    if named is not None:
        candidates.insert(0, named)
    errors = []
    for path in candidates:
        try:
            read_checkpoint(path, needed)
            return path
        except CheckpointError as error:
            errors.append(str(error))
    if errors:
        raise CheckpointError(f'no checkpoint in {work_dir} can be resumed from: {errors[0]}')
    return None


def holds_role(state: Iterable[str], role: str) -> bool:
    """Whether a full checkpoint holds a role: frozen ones that have a file of their own are left out.

    Args:
        state: Its ``state_dict``.
        role: Name of the role.
    """
    return any(key.startswith(f'roles.{role}.') for key in state)


def check_same_tensors(model: nn.Module, loaded: Mapping[str, Tensor], path: str | Path) -> None:
    """Check that a checkpoint was made for a model.

    Args:
        model: A model; an ``mmadm.Distillation`` may have frozen roles from files of their own beside the checkpoint.
        loaded: ``state_dict`` of the checkpoint.
        path: The checkpoint, for the error.

    Raises:
        CheckpointError: If names or shapes differ; says how many.
    """
    held = {key.split('.')[1] for key in loaded if key.startswith('roles.')}
    if hasattr(model, 'roles') and not held:
        raise CheckpointError(f'{path} is the checkpoint of a single network, not of a training of several roles')
    apart = tuple(f'roles.{name}.' for name in getattr(model, 'frozen_roles', ()) if name not in held)
    own = {key: value for key, value in model.state_dict().items() if not key.startswith(apart)}
    missing = [key for key in own if key not in loaded]
    unexpected = [key for key in loaded if key not in own]
    reshaped = [key for key in own if key in loaded and own[key].shape != loaded[key].shape]
    if missing or unexpected or reshaped:
        raise CheckpointError(
            f'{path} is of another architecture: of the {len(own)} tensors of this model {len(missing)} are missing '
            f'and {len(reshaped)} have another shape, {len(unexpected)} are unknown '
            f'({first_of([*missing, *reshaped, *unexpected])})'
        )
