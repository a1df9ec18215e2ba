"""Processes of a test, forked from a server that imports the toolboxes: five seconds of CPU time once, not for each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from plain_configs import leave_unformatted
from small_trainings import ROOT
from torch.multiprocessing import start_processes

from mmadm.bench.jobs import Launcher, RunFailedError, failure
from mmadm.bench.records import Record
from mmadm.bench.warm_start import PARTS, TOOLBOXES, run_script

_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload([*TOOLBOXES, *PARTS])


def spawn_two(work: Callable[..., None], *arguments: object) -> None:
    """Run ``work(rank, *arguments)`` in two processes and wait for both; fails if one does."""
    start_processes(work, arguments, nprocs=2, start_method='forkserver')


def start_tool(name: str, log: Path, *arguments: str | Path, **environment: str) -> ForkServerProcess:
    """Start a tool in a process of its own, with its output in a file: workers of a killed process keep a pipe open."""
    words = [str(ROOT / 'tools' / name), *map(str, arguments)]
    process = _CONTEXT.Process(target=_be_tool, args=(words, str(log), environment))
    process.start()
    return process


def _be_tool(words: list[str], log: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    leave_unformatted(pytest.MonkeyPatch())
    raise SystemExit(run_script(words, log)[0])


class ForkingLauncher(Launcher):
    """Starts runs by :func:`start_tool`, and does not measure them."""

    def _call(self, script: str, arguments: list[str | Path], log: Path) -> Record:
        log.parent.mkdir(parents=True, exist_ok=True)
        process = start_tool(script, log, *arguments, **self.environment)
        process.join()
        if process.exitcode != 0:
            raise RunFailedError(failure(script, process.exitcode, log))
        return {'memory': 1.0, 'seconds': 1.0}
