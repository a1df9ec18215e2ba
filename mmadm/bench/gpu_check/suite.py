"""Part that is run only if it is asked for: a suite of the benchmark with one seed for each method."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mmadm.bench.gpu_check.report import Report, Setting

ROOT = Path(__file__).parents[3]


def suite(setting: Setting, report: Report) -> None:
    """Part: what ``tools/benchmark.py`` prints is in the log of the part."""
    name, budget = setting.suite
    data = os.environ.get('MMADM_DATA') or 'data'
    if not Path(data).is_dir():
        report.figure(
            f'suite {name}, {budget}', f'skipped: no data in {data!r}; set MMADM_DATA to the folder of the data sets'
        )
        return
    command = [sys.executable, str(ROOT / 'tools/benchmark.py'), 'run', name, '--budget', budget]
    command += ['--jobs', '8', '--out', str(setting.folder / 'suite')]
    with report.attempt(f'suite {name}, {budget}'):
        done = subprocess.run(command, check=False, timeout=max(1.0, setting.seconds - report.seconds - 2))
        report.check(f'suite {name}, {budget}', done.returncode == 0, f'exit code {done.returncode}')
