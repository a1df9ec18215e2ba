"""One training at a time in a work dir."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mmadm.utils.errors import ConfigError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

#: Stays in the work dir; only the lock on it counts, which ends with the process
LOCK_FILE = '.training.lock'
#: Where a launcher says which of several processes this is
_RANKS = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}


@contextmanager
def sole_training(work_dir: str | Path, launcher: str = 'none') -> Iterator[None]:
    """Keep other trainings out of a work dir while the block runs; of several processes the first does.

    Args:
        work_dir: An existing folder.
        launcher: What has started the processes: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Raises:
        ConfigError: If another training is running there.
    """
    if fcntl is None or int(os.environ.get(_RANKS.get(launcher, ''), 0)) > 0:
        yield
        return
    with (Path(work_dir) / LOCK_FILE).open('a+', encoding='utf-8') as file:
        if not _take(file):
            file.seek(0)
            raise ConfigError(
                f'work_dir={str(work_dir)!r} is in use by another training ({file.read().strip()}): wait for its end, '
                'or choose another work dir'
            )
        file.truncate(0)
        file.write(f'process {os.getpid()} on {platform.node()}')
        file.flush()
        yield


def _take(file: IO[str]) -> bool:
    """Lock a file if nobody else has; True also where the file system knows no locks."""
    try:
        # not flock: forked workers of a data loader would keep it for seconds after the training was killed
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True
