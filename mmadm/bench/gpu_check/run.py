"""Starts the parts one after the other or side by side, each with a limit of time, and keeps what they find."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from mmadm.bench.gpu_check.plan import Part

ROOT = Path(__file__).parents[3]
#: A part that would have less is not begun
FEWEST_SECONDS = 8.0


@dataclass(frozen=True)
class Options:
    """How the parts are run.

    Attributes:
        out: Folder for results, logs and what the parts write.
        device: ``cuda`` or ``cpu``.
        minutes: For everything together.
        jobs: Parts at a time.
        tiny: As small as a test wants it.
        suite: Suite of the benchmark and its budget.
    """

    out: Path
    device: str = 'cuda'
    minutes: float = 8.0
    jobs: int = 1
    tiny: bool = False
    suite: tuple[str, str] = ('', '')


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        name: Of the part.
        title: Of the part.
        ended: How: ``ok``, ``failed`` (a check), ``crashed``, ``out of time`` or ``no time left``.
        seconds: How long it took.
        rows: Findings, those before a crash included.
        log: End of what it printed, if it did not end well.
    """

    name: str
    title: str
    ended: str
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    log: str = ''


@dataclass
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    began: float
    limit: float


def run_parts(parts: Iterable[Part], options: Options, told: Callable[[Outcome], None]) -> list[Outcome]:
    """Run parts until the time is over; ``results.json`` in the folder is complete after each of them.

    Args:
        parts: In order; the first that wants to be alone waits for all before it.
        options: Where and how.
        told: Called with every outcome, as soon as it is known.

    Returns:
        The outcomes, in the order in which the parts ended.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    deadline = monotonic() + 60 * options.minutes
    waiting, running, outcomes = list(parts), [], []

    def done(outcome: Outcome) -> None:
        """Keep an outcome."""
        outcomes.append(outcome)
        (options.out / 'results.json').write_text(json.dumps([asdict(each) for each in outcomes], indent=1))
        told(outcome)

    try:
        while waiting or running:
            while waiting and _may_start(waiting[0], running, options.jobs):
                part = waiting.pop(0)
                left = deadline - monotonic()
                if left < FEWEST_SECONDS:
                    done(Outcome(part.name, part.title, 'no time left'))
                else:
                    running.append(_start(replace(part, seconds=min(part.seconds, left - 2)), options))
            for each in [each for each in running if _over(each)]:
                running.remove(each)
                done(_outcome(each, options.out))
            sleep(0.05)
    finally:
        for each in running:
            _kill(each.process)
    return outcomes


def _may_start(part: Part, running: list[_Running], jobs: int) -> bool:
    if part.alone or any(each.part.alone for each in running):
        return not running
    return len(running) < jobs


def _start(part: Part, options: Options) -> _Running:
    folder = options.out / part.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'rows.json').unlink(missing_ok=True)
    command = [sys.executable, '-m', 'mmadm.bench.gpu_check.child', part.where, '--device', options.device]
    command += ['--seconds', str(part.seconds), '--folder', str(folder), '--suite', *options.suite]
    command += ['--tiny'] if options.tiny else []
    # only what is alone may use several threads
    threads = str(min(8, os.cpu_count() or 1)) if part.alone and not options.tiny else '1'
    paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    env = {
        'GLOO_SOCKET_IFNAME': 'lo',  # a machine without network has no other name
        'NCCL_SOCKET_IFNAME': 'lo',
        'CUBLAS_WORKSPACE_CONFIG': ':4096:8',  # deterministic mode needs it
        'TORCHINDUCTOR_CACHE_DIR': str(folder.resolve() / 'inductor'),
        **os.environ,
        'OMP_NUM_THREADS': threads,
        'PYTHONPATH': os.pathsep.join(paths),
    }
    with (folder / 'log.txt').open('wb') as log:
        # a session of its own: its processes go with it
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True)
    return _Running(part, process, monotonic(), part.seconds)


def _over(running: _Running) -> bool:
    return running.process.poll() is not None or monotonic() - running.began > running.limit


def _outcome(running: _Running, out: Path) -> Outcome:
    """Say how a part ended; one that has not is ended here."""
    code, took = running.process.poll(), monotonic() - running.began
    _kill(running.process)
    folder = out / running.part.name
    try:
        rows = json.loads((folder / 'rows.json').read_text())
    except (OSError, ValueError):  # none yet, or killed while it was written
        rows = []
    failed = [row for row in rows if row['passed'] is False]
    ended = 'out of time' if code is None else 'crashed' if code else 'failed' if failed else 'ok'
    log = '' if code == 0 else (folder / 'log.txt').read_text(errors='replace')[-3000:]
    return Outcome(running.part.name, running.part.title, ended, round(took, 1), rows, log)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a part with all processes that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
