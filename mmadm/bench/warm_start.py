"""Runs that fork from one process which has imported everything: imports and CUDA take much of a run of a minute."""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from threading import local

from mmadm.bench.jobs import Job, Launcher, RunFailedError, failure
from mmadm.bench.records import Record

TOOLBOXES = ['mmcv.ops', 'mmseg.apis', 'mmdet.apis', 'scipy.optimize']
PARTS = [f'mmadm.{part}' for part in ('bench.command', 'algorithms', 'distillers', 'engine', 'datasets', 'adapters')]


class WarmLauncher(Launcher):
    """A launcher whose runs have one process each, for training and tests, with torch and the toolboxes imported.

    Args:
        root: Folder that holds ``tools`` and ``configs``.
        threads: See :class:`~mmadm.bench.jobs.Launcher`.
    """

    def __init__(self, root: Path, threads: int | None = None) -> None:
        super().__init__(root, threads)
        # asked through CUDA's driver, the number of GPUs would leave a state in that process that forks cannot use
        os.environ.update(self.environment, PYTORCH_NVML_BASED_CUDA_CHECK='1')
        self._context = multiprocessing.get_context('forkserver')
        self._context.set_forkserver_preload(TOOLBOXES + PARTS)
        forkserver.ensure_running()  # imports while the runs are planned
        self._of_thread = local()

    def run(self, job: Job) -> Record:
        """See :class:`~mmadm.bench.jobs.Launcher`."""
        with self.worker():
            return super().run(job)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Give this thread a process that runs its scripts, one after the other."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs,))
        with self._lock:
            if self._stopped:
                raise RunFailedError('no run was started: the benchmark is stopping')
            process.start()
            self._running.add(process)
        theirs.close()
        self._of_thread.connection = ours
        try:
            yield
        finally:
            ours.close()  # which ends the process
            process.join()
            with self._lock:
                self._running.discard(process)

    def _call(self, script: str, arguments: list[str | Path], log: Path) -> Record:
        """See :class:`~mmadm.bench.jobs.Launcher`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._of_thread.connection.send(([str(self.root / 'tools' / script), *map(str, arguments)], str(log)))
            code, usage = self._of_thread.connection.recv()
        except (EOFError, OSError):
            code, usage = 'a killed process', {}
        if code != 0:
            raise RunFailedError(failure(script, code, log))
        return usage


def serve(connection: Connection) -> None:
    """Run the scripts that come through a connection until it is closed, and answer each with :func:`run_script`."""
    while True:
        try:
            words, log = connection.recv()
        except EOFError:
            return
        connection.send(run_script(words, log))


def run_script(words: list[str], log: str) -> tuple[int, Record]:
    """Run a Python script in this process as if it had been started with ``words``.

    Args:
        words: Path of the script and its arguments.
        log: File to whose end its output goes.

    Returns:
        Its exit code; the peak memory in MiB of this process or a worker, and the CPU seconds of all.
    """
    with open(log, 'ab') as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.argv, before, code = words, cpu_seconds(), 0
    try:
        runpy.run_path(words[0], run_name='__main__')
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1024**2 if sys.platform == 'darwin' else 1024
    return code, {'memory': peak / unit, 'seconds': cpu_seconds() - before}


def cpu_seconds() -> float:
    """Seconds of CPU time of this process and of its workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
