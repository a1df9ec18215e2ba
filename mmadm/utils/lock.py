"""One training at a time in a work dir."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, init_dist, is_distributed, is_main_process
from mmengine.utils.dl_utils import set_multi_processing

from mmadm.utils.errors import ConfigError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

#: Stays in the work dir; only the lock on it counts, which ends with the process
LOCK_FILE = '.training.lock'


@contextmanager
def sole_training(work_dir: str | Path) -> Iterator[None]:
    """Keep other trainings out of a work dir while the block runs.

    Of several ranks the first takes the lock and tells the others, which would wait for it for ever if it alone were
    refused. The process group has to exist by then, see :func:`join_ranks`.

    Args:
        work_dir: An existing folder.

    Raises:
        ConfigError: If another training is running there; on every rank.
    """
    with ExitStack() as stack:
        told = [_locked(Path(work_dir), stack) if is_main_process() else None]
        broadcast_object_list(told)
        if told[0] is not None:
            raise ConfigError(told[0])
        yield


def join_ranks(cfg: Config) -> None:
    """Make the process group of a launched training, as its Runner would do a moment later.

    Args:
        cfg: Config with ``launcher``.
    """
    if cfg.launcher != 'none' and not is_distributed():
        env_cfg = cfg.get('env_cfg', {})
        set_multi_processing(**env_cfg.get('mp_cfg', {}), distributed=True)
        init_dist(cfg.launcher, **env_cfg.get('dist_cfg', {}))


def _locked(work_dir: Path, stack: ExitStack) -> str | None:
    """Lock a work dir until the stack closes; returns what to say if another training has it."""
    if fcntl is None:
        return None
    file = stack.enter_context((work_dir / LOCK_FILE).open('a+', encoding='utf-8'))
    if not _take(file):
        file.seek(0)
        return (
            f'work_dir={str(work_dir)!r} is in use by another training ({file.read().strip()}): wait for its end, '
            'or choose another work dir'
        )
    file.truncate(0)
    file.write(f'process {os.getpid()} on {platform.node()}')
    file.flush()
    return None


def _take(file: IO[str]) -> bool:
    """Lock a file if nobody else has; True also where the file system knows no locks."""
    try:
        # not flock: forked workers of a data loader would keep it for seconds after the training was killed
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True
