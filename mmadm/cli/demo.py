"""The demo: a student of a few generated streets learns from a teacher that was trained on many others.

The students' streets are drawn, a plain student is trained and beside it one that `mmadm distill` lets learn from the
teacher; a table and a picture compare them. Everything goes to one folder. A second start goes on where the first was
stopped, or only shows the results.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mmengine.logging import MMLogger
from rich.console import Console

from mmadm.bench.finished_runs import open_run
from mmadm.bench.jobs import Job, Launcher, run_jobs
from mmadm.bench.plan import plan_method
from mmadm.bench.records import Record, read_json_lines
from mmadm.bench.suites import ROOT
from mmadm.cli import distill
from mmadm.demo import make_streets_command
from mmadm.demo.comparison import DISTILLED, PLAIN, draw_comparison, mean_iou, score_table
from mmadm.demo.suite import remove_outdated, run_suite
from mmadm.demo.teacher_command import CONFIG, SIZE, WEIGHTS
from mmadm.utils.cli import one_line_errors

#: The student, below ``configs``, and how many streets it sees
STUDENT, IMAGES = 'configs/demo/small_student.py', {'train': 24, 'val': 60}
#: Words of `mmadm distill`: what gained, see docs/results.md
METHOD = ['--method', 'adm', '--frozen']
#: What the toolboxes tell at every start, and nobody can change
KNOWN = (
    'pkg_resources is deprecated',
    'The current default scope',
    '``build_loss`` would be deprecated',
    'Default ``avg_non_ignore`` is False',
    'Using env variable `MMADM_DATA`',
)
_NEXT = 'mmadm distill YOUR_STUDENT.py YOUR_TEACHER.py --teacher-checkpoint YOUR_TEACHER.pth --train'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the verb."""
    parser = argparse.ArgumentParser(
        prog='mmadm demo', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'), help='where everything goes')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='several give an interval')
    parser.add_argument('--full', action='store_true', help='then compare more methods, and detectors, in a report')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='passed on to every training')
    return parser.parse_args(arguments)


@contextmanager
def without_known_warnings() -> Iterator[None]:
    """Leave what the toolboxes tell at every start out while the block runs; everything else is shown."""
    logger = MMLogger.get_current_instance()
    logger.addFilter(_is_news)
    try:
        with warnings.catch_warnings():
            for text in KNOWN:
                warnings.filterwarnings('ignore', message=re.escape(text))
            yield
    finally:
        logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(KNOWN)


def distill_words(work_dir: Path) -> list[str]:
    """Words of the `mmadm distill` that writes the config of the distilled student.

    Args:
        work_dir: Folder of the demo.
    """
    files = [os.path.relpath(path) for path in (ROOT / STUDENT, ROOT / CONFIG, WEIGHTS, work_dir / 'distilled.py')]
    student, teacher, weights, out = files
    return [student, teacher, *METHOD, '--teacher-checkpoint', weights, '--out', out, '--force']


def plan_jobs(work_dir: Path, seeds: Sequence[int], options: Sequence[str]) -> list[Job]:
    """Runs of the plain and of the distilled student for every seed."""
    configs = {PLAIN: STUDENT, DISTILLED: str((work_dir / 'distilled.py').resolve())}
    runs = [plan_method('demo', name, config, options, seeds, work_dir) for name, config in configs.items()]
    return [job for of_seed in zip(*runs, strict=True) for job in of_seed]


def finished_records(jobs: Sequence[Job], work_dir: Path) -> list[Record]:
    """Result records of the jobs, without those of other seeds and former configs."""
    found = {(r['method'], r['seed'], r['config_sha']): r for r in read_json_lines(work_dir / 'results.jsonl')}
    return [found[(*job.key, job.facts['config_sha'])] for job in jobs]


def compare(work_dir: Path, seeds: Sequence[int], options: Sequence[str], console: Console) -> list[str]:
    """Draw the streets, write the distillation, train both students and show what came out.

    Args:
        work_dir: Where everything goes.
        seeds: Seeds of both.
        options: ``--cfg-options`` of every training.
        console: Where progress and results go.

    Returns:
        One message per run that failed; with any, there is no picture.
    """
    os.environ['MMADM_DATA'] = str(work_dir / 'data')  # the configs read it, here and in the training processes
    console.rule('1 of 4: drawing streets', align='left')
    counts = [word for split, count in IMAGES.items() for word in (f'--{split}', str(count))]
    size = ['--size', *map(str, SIZE)]
    make_streets_command.main([str(work_dir / 'data' / 'streets'), *counts, *size])
    console.rule('2 of 4: writing the distillation', align='left')
    words = distill_words(work_dir)
    console.print(f'$ mmadm distill {shlex.join(words)}', markup=False, soft_wrap=True)
    distill.main(words)
    console.rule('3 of 4: training a plain and a distilled student, side by side', align='left')
    jobs = plan_jobs(work_dir, seeds, options)
    remove_outdated(jobs)
    console.print(f'logs: {work_dir}/{{{PLAIN},{DISTILLED}}}/seed*/train.log', markup=False, soft_wrap=True)
    failures = run_jobs(jobs, Launcher(ROOT, threads=1), work_dir, 2, console)
    if failures:
        return failures
    console.rule('4 of 4: what came out', align='left')
    picture = work_dir / 'demo.png'
    with console.status('scoring the teacher, and predicting some images with both students'):
        plain, distilled = (open_run(job.work_dir) for job in jobs[:2])
        draw_comparison(plain, distilled, picture)
        teacher = mean_iou(replace(distilled, model=distilled.model.roles['teacher']))
    console.print(score_table(finished_records(jobs, work_dir), teacher))
    console.print(f'picture: {picture}', markup=False, soft_wrap=True)
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    args = parse_args(arguments)
    console, start = Console(), time.monotonic()
    with one_line_errors(), without_known_warnings():
        failures = compare(args.work_dir, args.seeds, args.cfg_options, console)
        if args.full and not failures:
            console.rule('all methods, and detectors', align='left')
            failures = run_suite(args.work_dir / 'full', args.cfg_options, console)
    for failure in failures:
        console.print(failure, style='red', markup=False, soft_wrap=True)
    if not failures:
        console.print(f'{time.monotonic() - start:.0f} s in all; next, with configs of your own:', highlight=False)
        console.print(f'  {_NEXT}', style='bold', markup=False, soft_wrap=True)
    return 1 if failures else 0
