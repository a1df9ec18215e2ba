"""Check which networks of the installed model zoos work as roles.

A kind of networks is a meta-architecture with a backbone, neck and heads; the smallest config of each kind is student
and teacher, with a loss at ``feats`` and one at ``logits``. ``run`` adds a JSON line for each to OUT and skips what
stands there; ``table`` makes markdown of it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from mmadm.bench.records import read_json_lines
from mmadm.bench.zoo_check.kinds import Kind, kinds_of
from mmadm.bench.zoo_check.table import markdown, newest
from mmadm.bench.zoo_check.worker import Worker

console = Console()


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', help='check kinds of networks')
    run.add_argument('--toolboxes', nargs='+', default=['mmseg', 'mmdet'])
    run.add_argument('--only', default='', help='regular expression that a config must match')
    run.add_argument('--again', nargs='+', default=[], metavar='VERDICT', help='also those with a verdict, like error')
    run.add_argument('--build-only', action='store_true', help='no training steps: a third of the time')
    run.add_argument('--limit', type=float, default=120.0, help='seconds for one kind')
    run.add_argument('--out', type=Path, default=Path('work_dirs/zoo.jsonl'))
    table = commands.add_parser('table', help='markdown of a file')
    table.add_argument('file', type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns its exit code, which is 1 if a network fails with a raw error."""
    args = parse_args(arguments)
    if args.command == 'table':
        console.print(markdown(newest(read_json_lines(args.file))), markup=False, soft_wrap=True, highlight=False)
        return 0
    kinds = [kind for toolbox in args.toolboxes for kind in kinds_of(toolbox) if re.search(args.only, kind.config)]
    run(kinds, args.out, Worker(args.limit, not args.build_only), args.again)
    known = {kind.config for kind in kinds}
    records = [record for record in newest(read_json_lines(args.out)) if record['config'] in known]
    console.print(markdown(records), markup=False, soft_wrap=True, highlight=False)
    return int(any(record[at]['verdict'] == 'error' for record in records for at in ('feats', 'logits', 'step')))


def run(kinds: Sequence[Kind], out: Path, worker: Worker, again: Sequence[str] = ()) -> None:
    """Check kinds of networks.

    Args:
        kinds: Those of which ``out`` has no line are checked.
        out: JSON-lines file that grows by one line for each.
        worker: Checks them; is closed at the end.
        again: Verdicts with which kinds are checked once more.
    """
    done = {
        record['config']
        for record in newest(read_json_lines(out))
        if not {record[at]['verdict'] for at in ('feats', 'logits', 'step')} & set(again)
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        for kind in track([kind for kind in kinds if kind.config not in done], 'Networks', console=console):
            result = worker.check(kind.config)
            record = {'toolbox': kind.toolbox, 'kind': kind.name, 'config': kind.config, **result}
            with out.open('a', encoding='utf-8') as file:
                file.write(json.dumps(record) + '\n')
    finally:
        worker.close()
