"""Find out everything about a machine with a GPU in one run of a few minutes.

Each part runs in a process of its own with a limit of time; the next one starts whatever became of it. The results are
in ``OUT/results.json`` after each part, and as a table in ``OUT/results.txt`` at the end.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmengine.device import get_device
from rich.console import Console
from rich.markup import escape

from mmadm.bench.gpu_check.plan import PARTS, SUITE
from mmadm.bench.gpu_check.run import Options, run_parts
from mmadm.bench.gpu_check.show import table, tell


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in PARTS]
    parser.add_argument('--out', type=Path, default=Path('work_dirs/gpu_check'), help='where results and logs go')
    parser.add_argument('--minutes', type=float, default=8.0, help='for everything but --suite')
    parser.add_argument('--only', nargs='+', choices=names, metavar='PART', help=f'some of: {", ".join(names)}')
    parser.add_argument('--device', default=get_device(), help='default: a GPU if there is one')
    parser.add_argument('--jobs', type=int, default=max(1, 3 * (os.cpu_count() or 1) // 4), help='parts at a time')
    parser.add_argument('--tiny', action='store_true', help='small enough for a CPU, to try the parts themselves')
    parser.add_argument('--suite', help='then also run this suite of tools/benchmark.py, one seed, an hour at most')
    parser.add_argument('--budget', default='small', help='of the suite')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns 1 if any check does not hold."""
    args = parse_args(arguments)
    parts, minutes = [part for part in PARTS if not args.only or part.name in args.only], args.minutes
    if args.suite:
        parts.append(SUITE)
        minutes += SUITE.seconds / 60
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    options = Options(args.out, args.device, minutes, args.jobs, args.tiny, (args.suite or '', args.budget))
    outcomes = run_parts(parts, options, partial(tell, console=console))
    order = {part.name: number for number, part in enumerate(parts)}
    outcomes.sort(key=lambda outcome: order[outcome.name])
    with (args.out / 'results.txt').open('w', encoding='utf-8') as file:
        Console(file=file, width=200).print(table(outcomes, 'Everything'))
    console.print(table(outcomes, 'Figures, and checks that do not hold', everything=False))
    console.print(escape(f'results: {args.out}/results.json, {args.out}/results.txt'), soft_wrap=True)
    return int(any(outcome.ended != 'ok' for outcome in outcomes))
