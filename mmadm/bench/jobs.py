"""Benchmark runs: train and test in processes of their own, measured from outside, several at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmadm.bench.launch import launch_words
from mmadm.bench.metrics import METRICS, class_scores, role_scores
from mmadm.bench.records import (
    Record,
    add_json_line,
    read_json_lines,
    read_scalars,
    score_fields,
    seconds_per_iteration,
    validation_curves,
)
from mmadm.utils.checkpoint import newest_checkpoint, write_atomically
from mmadm.utils.errors import ConfigError


class RunFailedError(RuntimeError):
    """A training or test process ended with an error."""


@dataclass(frozen=True)
class Job:
    """One training of one method with one seed.

    Attributes:
        suite: Name of the suite.
        method: Name of the method in the suite.
        seed: Value of ``randomness.seed``.
        config: Path of the config, relative to the root of the project.
        options: Further ``--cfg-options`` as the user wrote them, ``key=value``.
        work_dir: Where the run writes.
        length: Length of the training.
        unit: ``iterations`` or ``epochs``, in which the length is told.
        roles: Trainable roles in the order of the config; one role for a stock model.
        stock: Whether the config holds a stock model, which has no roles of its own.
        tests: Whether the test split differs from the validation split.
        facts: What else the result record shall hold (config hash, split, parameters, versions).
    """

    suite: str
    method: str
    seed: int
    config: str
    options: tuple[str, ...]
    work_dir: Path
    length: int
    unit: str
    roles: tuple[str, ...]
    stock: bool
    tests: bool
    facts: Record

    @property
    def key(self) -> tuple[str, int]:
        """What a run is called inside its folder."""
        return self.method, self.seed


class Launcher:
    """Runs jobs through ``tools/train.py`` and ``tools/test.py``; safe to share between threads.

    Args:
        root: Folder that holds ``tools`` and ``configs``.
        threads: ``OMP_NUM_THREADS`` of every process; what the environment says if None.
        launcher: What starts a run, see :func:`~mmadm.bench.launch.launch_words`.
        gpus: Processes of a run.
    """

    def __init__(self, root: Path, threads: int | None = None, launcher: str = 'none', gpus: int = 1) -> None:
        self.root = root
        self._before, self._after = launch_words(launcher, gpus)
        self.environment = dict(os.environ) | ({} if threads is None else {'OMP_NUM_THREADS': str(threads)})
        # the scripts import mmadm also where it is not installed
        self.environment['PYTHONPATH'] = os.pathsep.join(filter(None, [str(root), os.environ.get('PYTHONPATH')]))
        self._running: set[subprocess.Popen[bytes] | BaseProcess] = set()
        self._stopped = False
        self._lock = Lock()

    def run(self, job: Job) -> Record:
        """Train, or resume what was interrupted, then test every trainable role.

        Args:
            job: What to run.

        Returns:
            The result record. ``memory`` is the peak in MiB: on a GPU what the logger reports, on a CPU the largest
            resident set (``ru_maxrss``) of the training process or of one of its workers, which share most pages with
            it: not a sum over processes. Linux counts what the launching process held, too, which is less.

        Raises:
            RunFailedError: If a process fails; its output is in ``train.log`` or ``test_<role>.log``.
            ConfigError: If the work dir holds a training made with another config.
        """
        check_same_config(job)
        usage = self.train(job)
        scalars = read_scalars(job.work_dir)
        curves = validation_curves(scalars, job.roles[0])
        val = {metric: {role: curve[-1][1] for role, curve in by_role.items()} for metric, by_role in curves.items()}
        require_scores(val, job.work_dir / 'train.log')
        validations = [entry for entry in scalars if role_scores(entry)]
        test, classes = self.test(job) if job.tests else ({}, class_scores(validations[-1], '', job.roles[0]))
        logged = [entry['memory'] for entry in scalars if 'memory' in entry]
        return {
            'suite': job.suite,
            'method': job.method,
            'seed': job.seed,
            'config': job.config,
            'cfg_options': list(job.options),
            'work_dir': '/'.join(job.work_dir.parts[-2:]),
            job.unit: job.length,
            **score_fields(val, test),
            'classes': classes,
            'time': seconds_per_iteration(scalars),
            'memory': max(logged, default=usage['memory']),
            'seconds': usage['seconds'],
            **job.facts,
        }

    def train(self, job: Job) -> Record:
        """Train unless that is done already; returns peak memory in MiB and CPU seconds of the last process."""
        done = job.work_dir / 'train.json'
        if done.is_file():
            return json.loads(done.read_text())
        # --resume starts from the beginning where there is nothing to resume from
        arguments = [self.root / job.config, '--work-dir', job.work_dir, '--resume', *self._options(job)]
        usage = self._call('train.py', arguments, job.work_dir / 'train.log')
        write_atomically(json.dumps(usage).encode(), done)
        return usage

    def test(self, job: Job) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
        """Test every trainable role on the test split.

        Returns:
            ``{metric: {role: percent}}`` and, for the main metric, ``{role: {class: percent}}``.
        """
        checkpoint = newest_checkpoint(job.work_dir)
        if checkpoint is None:
            raise RunFailedError(
                f'{job.work_dir} holds no checkpoint: set default_hooks.checkpoint to save the last one'
            )
        scores: dict[str, dict[str, float]] = {}
        classes: dict[str, dict[str, float]] = {}
        for role in job.roles:
            folder = job.work_dir / f'test_{role}'
            log = folder.with_suffix('.log')
            chosen = [] if job.stock else ['--role', role]
            arguments = [self.root / job.config, checkpoint, '--work-dir', folder, *chosen, *self._options(job)]
            self._call('test.py', arguments, log)
            metrics = json.loads(sorted(folder.glob('*/*.json'))[-1].read_text())
            found = role_scores(metrics, role)
            require_scores(found, log)
            for metric, by_role in found.items():
                scores.setdefault(metric, {}).update(by_role)
            classes |= class_scores(metrics, log.read_text(encoding='utf-8', errors='replace'), role)
        return scores, classes

    def stop(self) -> None:
        """End the processes that are running and start no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    @staticmethod
    def _options(job: Job) -> list[str]:
        return ['--cfg-options', f'randomness.seed={job.seed}', *job.options]

    def _call(self, script: str, arguments: list[str | Path], log: Path) -> Record:
        """Run a script to its end with its output in ``log``; returns its peak memory and CPU seconds."""
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [*self._before, str(self.root / 'tools' / script), *map(str, arguments), *self._after]
        with self._lock, log.open('ab') as output:
            if self._stopped:
                raise RunFailedError(f'{script} was not started: the benchmark is stopping')
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=self.environment)
            self._running.add(process)
        # wait4, not Popen.wait: it tells what this one process used, even with others running beside it
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        with self._lock:
            self._running.discard(process)
        if process.returncode != 0:
            raise RunFailedError(failure(script, process.returncode, log))
        kibibytes = usage.ru_maxrss / (1024 if sys.platform == 'darwin' else 1)
        return {'memory': kibibytes / 1024, 'seconds': usage.ru_utime + usage.ru_stime}


def failure(script: str, code: int | str, log: Path) -> str:
    """Say how a script ended, with the end of its log."""
    tail = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()[-5:]
    return '\n'.join([f'{script} ended with {code}; end of {log}:', *tail])


def run_jobs(jobs: list[Job], launcher: Launcher, out: Path, parallel: int, console: Console) -> list[str]:
    """Run what is not done yet, with a progress bar; a failure does not stop the others.

    Args:
        jobs: What shall be done in the end.
        launcher: Runs a job.
        out: Folder of the suite, which gets ``results.jsonl``.
        parallel: Runs at a time.
        console: Where progress goes.

    Returns:
        One message per run that failed.
    """
    done = {
        (record['method'], record['seed'], record['config_sha']) for record in read_json_lines(out / 'results.jsonl')
    }
    todo = [job for job in jobs if (*job.key, job.facts['config_sha']) not in done]
    if len(todo) < len(jobs):
        console.print(f'{len(jobs) - len(todo)} of {len(jobs)} runs are done already')
    failures = []
    with ThreadPoolExecutor(parallel) as pool:
        try:
            for job, future in finished(pool, launcher, todo, console):
                if error := future.exception():
                    failures.append(f'{job.method} seed {job.seed}: {type(error).__name__}: {error}')
                    console.print(f'[red]failed[/] {job.method} seed {job.seed}')
                    continue
                add_json_line(future.result(), out / 'results.jsonl')
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            launcher.stop()
            raise
    return failures


def finished(
    pool: ThreadPoolExecutor, launcher: Launcher, jobs: list[Job], console: Console
) -> Iterator[tuple[Job, Future[Record]]]:
    """Start the jobs and yield each one when it has ended, with a bar for all and one for each that runs."""
    columns = [TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn('{task.fields[unit]}, time left'), TimeRemainingColumn()]
    # a long window: methods differ in speed, so the last seconds say little about the rest
    with Progress(*columns, console=console, speed_estimate_period=300) as progress:
        units = ' and '.join(dict.fromkeys(job.unit for job in jobs))
        total = progress.add_task('all runs', total=sum(job.length for job in jobs), unit=units)
        bars = {
            j.key: progress.add_task(f'{j.method} seed {j.seed}', total=j.length, visible=False, unit=j.unit)
            for j in jobs
        }
        pending = {pool.submit(launcher.run, job): job for job in jobs}
        while pending:
            ended, _ = wait(pending, timeout=2, return_when=FIRST_COMPLETED)
            for future, job in pending.items():
                if future.running() or future in ended:
                    # in a training by epochs, the entries of validations have a step of another meaning
                    counter = 'epoch' if job.unit == 'epochs' else 'step'
                    seen = [entry.get(counter, 0) for entry in read_scalars(job.work_dir)]
                    progress.update(bars[job.key], completed=max(seen, default=0), visible=True)
            progress.update(total, completed=sum(progress.tasks[bar].completed for bar in bars.values()))
            for future in ended:
                yield pending.pop(future), future


def require_scores(scores: Mapping[str, object], log: Path) -> None:
    """Check that an evaluation gave a score; RunFailedError if not."""
    if not scores:
        raise RunFailedError(
            f'{log} tells none of {", ".join(metric.key for metric in METRICS)}: use IoUMetric or CocoMetric; '
            'CocoMetric gives none to a detector that finds nothing at all'
        )


def check_same_config(job: Job) -> None:
    """Note in the work dir which config its training has.

    Raises:
        ConfigError: If a training with another config is there already: resuming it would mix the two.
    """
    note = job.work_dir / 'config.sha'
    wanted = job.facts['config_sha']
    if note.is_file() and note.read_text() != wanted:
        raise ConfigError(
            f'{job.work_dir} holds a run of {job.config} with other settings (config or --cfg-options changed since); '
            'remove it or choose another --out'
        )
    write_atomically(wanted.encode(), note)
