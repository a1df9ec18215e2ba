"""What the command-line tools share."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.runner import BaseLoop, TestLoop, ValLoop

from mmadm.utils.config import read_config, resolve_config
from mmadm.utils.errors import CheckpointError, ConfigError, NonFiniteLossError
from mmadm.utils.ranks import join_cpu_ranks

#: Errors of a disk that is full, over its quota or read-only, and of a folder in the place of a file
_NOT_WRITABLE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
}
#: How a shell tells that a program was ended by a pipe that nobody reads any more
_BROKEN_PIPE = 141


class _Output:
    """Standard output that ends the program when its reader is gone, also where a logger would go on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or end the program."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._end()

    def flush(self) -> None:
        """Flush, or end the program."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._end()

    def _end(self) -> NoReturn:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # for what Python still flushes at its end
        raise SystemExit(_BROKEN_PIPE)


@contextmanager
def quiet_pipe() -> Iterator[None]:
    """End the program without a traceback when the reader of its output is gone, as with ``| head``.

    Raises:
        SystemExit: With the exit code that shells give such a program.
    """
    output = _Output(sys.stdout)
    with redirect_stdout(output):
        try:
            yield
        finally:
            output.flush()


@contextmanager
def one_line_errors(code: int = 1) -> Iterator[None]:
    """End the program with one clear line where the user, not the program, has to change something.

    Args:
        code: Exit code.

    Raises:
        SystemExit: For an error of mmadm's own kinds, a disk that cannot be written to, and a data loader whose
            worker was killed.
    """
    try:
        yield
    except (ConfigError, CheckpointError, NonFiniteLossError) as error:
        message = str(error)
    except (OSError, EOFError, RuntimeError) as error:
        told = _told_of_worker(error) or _told_of_disk(error)
        if told is None:
            raise
        message = told
    else:
        return
    with suppress(OSError):  # the output may be a file on the same disk
        sys.stdout.flush()
    print(f'error: {" ".join(message.split())}', file=sys.stderr)
    raise SystemExit(code)


def _told_of_disk(error: BaseException) -> str | None:
    """What to say of a disk that cannot be written to; None of any other error."""
    if not isinstance(error, OSError) or error.errno not in _NOT_WRITABLE:
        return None
    return (
        f'{error.filename or "a log"}: {error.strerror}. Files that were complete have not changed; a training '
        'goes on from its newest checkpoint with --resume'
    )


def _told_of_worker(error: BaseException) -> str | None:
    """What to say of a killed worker of a data loader; None of any other error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    reason = str(error).rstrip('. ')
    if not re.search(r'DataLoader worker \(pid', reason):
        # where the worker's end is seen before the system reports it, the loader cannot fetch what was sent
        gone = isinstance(error, (ConnectionError, EOFError, FileNotFoundError))
        if not gone or all(frame.f_code.co_name != '_try_get_data' for frame in frames):
            return None
        reason = f'a DataLoader worker is gone ({type(error).__name__})'
    loops = [frame.f_locals['self'] for frame in frames if isinstance(frame.f_locals.get('self'), BaseLoop)]
    loop = loops[-1] if loops else None
    kind = 'val' if isinstance(loop, ValLoop) else 'test' if isinstance(loop, TestLoop) else 'train'
    again = '' if kind == 'test' else '. --resume goes on from the newest checkpoint'
    return (
        f'{reason}: mostly there was too little memory; lower {kind}_dataloader.num_workers or '
        f'{kind}_dataloader.batch_size{again}'
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every tool with a Runner has.

    Args:
        parser: Parser of the tool, which has a ``config`` argument.
    """
    parser.add_argument('--work-dir', help='where logs and results go; default: work_dirs/<name of the config>')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, such as train_cfg.max_iters=100 or model.frozen="[teacher]"',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    # torch.distributed.launch passes it; torchrun sets LOCAL_RANK
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config that the arguments of :func:`add_run_arguments` and ``config`` describe.

    Args:
        args: Parsed arguments.

    Returns:
        The config, with ``launcher`` and ``work_dir`` set.

    Raises:
        ConfigError: If the file does not exist, or if several processes on a machine without GPU are not set for it.
    """
    if args.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise ConfigError('--launcher=pytorch: for what torchrun starts; use tools/dist_train.sh CONFIG GPUS')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(resolve_config(args.config))
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    if args.launcher != 'none' and get_device() == 'cpu':
        join_cpu_ranks(cfg)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def require_new(path: Path, option: str = '--out', force: bool = False) -> None:
    """Refuse to overwrite a file, unless forced; ConfigError names the option that gave it."""
    if path.exists() and not force:
        raise ConfigError(f'{path} exists: give another {option}, or --force to overwrite it')


def require_writable(work_dir: str | Path, key: str = 'work_dir') -> None:
    """Check that files can be made in a work dir; makes the folder if need be.

    Args:
        work_dir: Folder.
        key: What it is called where the user gave it.

    Raises:
        ConfigError: If not.
    """
    try:
        Path(work_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir):
            pass
    except OSError as error:
        raise ConfigError(f'{key}={str(work_dir)!r} cannot be written to: {error.strerror}') from error
