"""Runs that fork from one process which has imported everything: imports take ten seconds of a run of a minute."""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from mmadm.bench.jobs import Launcher, RunFailedError, failure
from mmadm.bench.records import Record

PRELOADED = (
    *('mmcv.ops', 'mmseg.apis', 'mmdet.apis', 'scipy.optimize'),
    *(
        'mmadm.bench.command',
        'mmadm.algorithms',
        'mmadm.distillers',
        'mmadm.engine',
        'mmadm.datasets',
        'mmadm.adapters',
    ),
)


class WarmLauncher(Launcher):
    """A launcher whose trainings and tests start from a process that has imported torch and the toolboxes.

    Args:
        root: Folder that holds ``tools`` and ``configs``.
        threads: See :class:`~mmadm.bench.jobs.Launcher`.
    """

    def __init__(self, root: Path, threads: int | None = None) -> None:
        super().__init__(root, threads)
        # asked through CUDA's driver, the number of GPUs would leave a state in that process that forks cannot use
        os.environ.update(self.environment, PYTORCH_NVML_BASED_CUDA_CHECK='1')
        self._context = multiprocessing.get_context('forkserver')
        self._context.set_forkserver_preload(list(PRELOADED))

    def _call(self, script: str, arguments: list[str | Path], log: Path) -> Record:
        """See :class:`~mmadm.bench.jobs.Launcher`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        receiver, sender = self._context.Pipe(duplex=False)
        words = (str(self.root / 'tools' / script), *map(str, arguments))
        process = self._context.Process(target=run_script, args=(words, str(log), sender))
        with self._lock:
            if self._stopped:
                raise RunFailedError(f'{script} was not started: the benchmark is stopping')
            process.start()
            self._running.add(process)
        sender.close()
        process.join()
        with self._lock:
            self._running.discard(process)
        if process.exitcode != 0:
            raise RunFailedError(failure(script, process.exitcode, log))
        return receiver.recv()


def run_script(words: tuple[str, ...], log: str, sender: Connection) -> None:
    """Run a Python script in this process as if it had been started with ``words``.

    Args:
        words: Path of the script and its arguments.
        log: File that gets its output, at the end.
        sender: Gets peak memory in MiB and CPU seconds, of this process and its workers.
    """
    with open(log, 'ab') as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.argv = list(words)
    try:
        runpy.run_path(words[0], run_name='__main__')
    finally:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        unit = 1024**2 if sys.platform == 'darwin' else 1024
        sender.send(
            {'memory': max(u.ru_maxrss for u in used) / unit, 'seconds': sum(u.ru_utime + u.ru_stime for u in used)}
        )
