"""Runs something in a forked process, which has imported everything, with its output in a file and a time limit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from unittest import mock

import cv2
import torch._dynamo  # noqa: F401  before the fork, as every optimiser imports it


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Its exit code, negative for a signal; None if it had to be stopped.
        output: What it wrote.
    """

    code: int | None
    output: str

    @property
    def sentence(self) -> str:
        """The line with which it ended if that is one of our errors, else nothing."""
        # a worker that is still there when its training ends may have the last word
        told = [line for line in self.output.splitlines() if line.startswith('error: ')]
        return told[-1] if self.code in (1, 2) and told else ''

    @property
    def raw(self) -> str:
        """The last line of a traceback that ended it, or that it hung; nothing if all is well."""
        if self.code is None:
            return 'hangs: ' + ' | '.join(self.output.strip().splitlines()[-2:])
        if self.code == 0 or self.sentence:
            return ''
        lines = self.output.strip().splitlines()
        return f'code {self.code}: ' + ' | '.join(line for line in lines[-3:] if line.strip())[:600]


def start(work: Callable[[], object], log: Path) -> ForkProcess:
    """Begin some work in a process of its own, with its output in a file."""
    process = multiprocessing.get_context('fork').Process(target=_child, args=(work, log))
    process.start()
    return process


def run(work: Callable[[], object], log: Path, limit: float) -> Ended:
    """Do some work in a process of its own; whatever it started is killed at the end.

    Args:
        work: What to do.
        log: File for its output.
        limit: Seconds.
    """
    process = start(work, log)
    process.join(limit)
    hung = process.is_alive()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.join()
    return Ended(None if hung else process.exitcode, log.read_text(errors='replace'))


def _child(work: Callable[[], object], log: Path) -> None:
    os.setsid()
    with log.open('wb') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (open(number, 'w', buffering=1, closefd=False) for number in (1, 2))
    cv2.setNumThreads(0)
    code = 0
    # mmengine lays out the text of the config anew at each save, which takes longer than these trainings
    as_it_is = mock.patch('mmengine.config.config.FormatCode', lambda text, **_: (text, True), create=True)
    try:
        with as_it_is:
            work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
