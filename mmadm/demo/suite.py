"""The long demo: mutual learning, ADM and plain students for segmentation and detection, and a report on them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmadm.bench.jobs import Job, Launcher, run_jobs
from mmadm.bench.metrics import TASKS
from mmadm.bench.plan import plan
from mmadm.bench.records import Record, by_metric
from mmadm.bench.report import report
from mmadm.bench.suites import NOTES, ROOT
from mmadm.bench.tables import table
from mmadm.demo import make_streets_command

# the long trainings first: they fill both cores, the short ones fit in behind them
METHODS = ('adm', 'dml', 'adm_det', 'student', 'student_det')


def remove_outdated(jobs: Sequence[Job]) -> None:
    """Delete demo runs that were made with another config, so that a changed demo is trained anew."""
    for job in jobs:
        note = job.work_dir / 'config.sha'
        if note.is_file() and note.read_text() != job.facts['config_sha']:
            shutil.rmtree(job.work_dir)


def show(records: Sequence[Record], console: Console) -> None:
    """Print the results as a table for each task."""
    title, note = NOTES['demo']
    console.print(title, style='bold')
    for metric, group in by_metric(records).items():
        printed = Table(title=TASKS[metric])
        names, rows = table(group)
        # the page has the rest; a terminal of 80 columns does not
        shown = [
            index for index, name in enumerate(names) if not name.startswith(('to ', 'seeds', 'step', 'peak', 'GFLOPs'))
        ]
        for index in shown:
            printed.add_column(names[index], justify='right' if index else 'left')
        for row in rows:
            printed.add_row(*(row[index] for index in shown))
        console.print(printed)
    console.print(note, style='italic')


def run_suite(work_dir: Path, options: Sequence[str], console: Console) -> list[str]:
    """Draw the streets, run what is not done yet, make the tables and the report.

    Args:
        work_dir: Where everything goes.
        options: ``--cfg-options`` of every training.
        console: Where progress and tables go.

    Returns:
        One message per run that failed; with any, there is no report.
    """
    # the configs read it, here and in the training processes
    os.environ['MMADM_DATA'] = str(work_dir / 'data')
    make_streets_command.main([str(work_dir / 'data' / 'streets')])
    jobs = plan('demo', METHODS, [0], 'full', work_dir, options)
    remove_outdated(jobs)
    failures = run_jobs(jobs, Launcher(ROOT, threads=1), work_dir, 2, console)
    if not failures:
        with console.status('Drawing the report'):
            records, target = report(work_dir)
        show(records, console)
        console.print(f'report: {target}', markup=False, soft_wrap=True)
    return failures
