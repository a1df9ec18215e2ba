"""Runs that fork from one process which has imported everything: imports and CUDA take much of a run of a minute."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import runpy
import sys
import traceback
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

from mmadm.bench.jobs import Launcher, RunFailedError, failure
from mmadm.bench.records import Record

TOOLBOXES = ['mmcv.ops', 'mmseg.apis', 'mmdet.apis', 'scipy.optimize']
PARTS = [f'mmadm.{part}' for part in ('bench.command', 'algorithms', 'distillers', 'engine', 'datasets', 'adapters')]


class WarmLauncher(Launcher):
    """A launcher whose scripts fork from a process that has imported torch and the toolboxes.

    Each has a process of its own: a test in that of its training would find mmengine's global visualizer there, and
    write its config and scores into the training's work dir.

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

    def _call(self, script: str, arguments: list[str | Path], log: Path) -> Record:
        """See :class:`~mmadm.bench.jobs.Launcher`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = self._context.Pipe(duplex=False)
        words = [str(self.root / 'tools' / script), *map(str, arguments)]
        process = self._context.Process(target=serve, args=(theirs, words, str(log)))
        with self._lock:
            if self._stopped:
                raise RunFailedError('no run was started: the benchmark is stopping')
            process.start()
            self._running.add(process)
        theirs.close()
        try:
            code, usage = ours.recv()
        except (EOFError, OSError):
            code, usage = 'a killed process', {}
        finally:
            ours.close()
            process.join()
            with self._lock:
                self._running.discard(process)
        if code != 0:
            raise RunFailedError(failure(script, code, log))
        return usage


def serve(connection: Connection, words: list[str], log: str) -> None:
    """Run one script and send what :func:`run_script` says of it."""
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
    gc.freeze()  # what was imported stays shared, and no data set's garbage collection looks through it
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
