"""Write a page about one training: curves, losses, pictures, its config and what it cost.

It needs only the work dir; what needs the data set or a checkpoint is left out where they are not at hand, and said.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger
from rich.console import Console

from mmadm.bench.run_page import write_run_page
from mmadm.bench.work_dir import open_work_dir
from mmadm.utils.cli import one_line_errors, require_new, require_writable
from mmadm.utils.errors import ConfigError

console = Console()


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the verb."""
    parser = argparse.ArgumentParser(prog='mmadm report', description=__doc__)
    parser.add_argument('work_dir', type=Path, metavar='WORK_DIR', help='work dir of a training, finished or not')
    parser.add_argument('--out', type=Path, metavar='FILE.html', help='default: WORK_DIR/report.html')
    parser.add_argument('--no-images', action='store_true', help='none of the data set: its licence may forbid it')
    parser.add_argument('--force', action='store_true', help='overwrite the page')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the verb."""
    args = parse_args(arguments)
    with one_line_errors():
        MMLogger.get_current_instance().setLevel('WARNING')  # mmengine tells which environment variables it read
        run = open_work_dir(args.work_dir)
        target = args.out or args.work_dir / 'report.html'
        if target.suffix != '.html':
            raise ConfigError(f'--out={target}: a page ends with .html')
        require_new(target, force=args.force)
        require_writable(target.parent, '--out')
        with console.status('reading the log') as status:
            lacking = write_run_page(run, target, not args.no_images, status.update)
    for line in lacking:
        console.print(f'- not on the page: {line}', markup=False, highlight=False, soft_wrap=True)
    console.print(f'report: {target}', markup=False, highlight=False, soft_wrap=True)
