"""The demo: draw streets, train segmentation and detection students on them, make the tables and the report.

A plain student, mutual learning and ADM for segmentation, a plain student and ADM for detection.

Everything goes to ``work_dirs/demo``. A second start goes on where the first was stopped, or only shows the results.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
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
from mmadm.utils.cli import one_line_errors

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'), help='where everything goes')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='passed on to every training')
    args = parser.parse_args(arguments)
    console, start = Console(), time.monotonic()
    # the configs read it, here and in the training processes
    os.environ['MMADM_DATA'] = str(args.work_dir / 'data')
    with one_line_errors():
        make_streets_command.main([str(args.work_dir / 'data' / 'streets')])
        jobs = plan('demo', METHODS, [0], 'full', args.work_dir, args.cfg_options)
        remove_outdated(jobs)
        failures = run_jobs(jobs, Launcher(ROOT, threads=1), args.work_dir, 2, console)
        for failure in failures:
            console.print(failure, style='red', markup=False, soft_wrap=True)
        if failures:
            return 1
        with console.status('Drawing the report'):
            records, target = report(args.work_dir)
        show(records, console)
        console.print(f'report: {target}  ({time.monotonic() - start:.0f} s in all)')
    return 0
