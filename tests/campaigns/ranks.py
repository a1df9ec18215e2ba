"""Let one of two ranks fail in every way, by every online method, and see that the other never waits for ever.

What both survive (a loss of NaN, an infinite image, an overflow in float16, a gradient that explodes in bfloat16, a
slow rank, no label or object on one of them) has to leave the same weights and the same last word on both; after what
one does not survive (an exception, a kill, a standstill) the other has to end within the time-out.
``python tests/campaigns/ranks.py`` writes ``benchmarks/campaigns/ranks.json``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch.multiprocessing
from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

from rank_trainings import ONLINE, be_rank  # noqa: E402

OUT = ROOT / 'benchmarks' / 'campaigns' / 'ranks.json'
SURVIVED = ('none', 'nan loss', 'inf image', 'overflow', 'exploding', 'slow', 'empty')
FATAL = ('exception', 'killed', 'stuck')
FAMILIES = ('retinanet', 'gfl')
#: Seconds that the end of a rank may take beyond the time-out
SLACK = 30
console = Console()
Jobs = list[tuple[str, str, str]]


def run(jobs: Jobs, timeout: float, limit: float) -> tuple[list[dict[str, Any]], list[float], list[int | None]]:
    """Run jobs on two ranks.

    Returns:
        What each rank wrote by job, when a fault began, and the exit codes; None of a rank that had to be killed.
    """
    context = torch.multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['rank_trainings', 'mmseg.models', 'mmdet.models'])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ranks = [context.Process(target=be_rank, args=(rank, folder, timeout, jobs)) for rank in (0, 1)]
        for process in ranks:
            process.start()
        ranks[0].join(limit)
        stands_still = any(fault == 'stuck' for _, fault, _ in jobs)
        if not stands_still:
            ranks[1].join(limit)
        codes = [None if process.is_alive() else process.exitcode for process in ranks]
        for process in ranks:
            process.kill()
            process.join()
        files = [folder / f'rank{rank}.json' for rank in (0, 1)]
        moments = [float(file.read_text()) for file in folder.glob('*.moment')]
        return [json.loads(file.read_text()) if file.exists() else {} for file in files], moments, codes


def survived(timeout: float) -> dict[str, Any]:
    """Run everything that both ranks have to come through, one after the other in the same two processes."""
    jobs: Jobs = [(method, fault, '') for method in ONLINE for fault in SURVIVED]
    jobs += [(method, fault, family) for family in FAMILIES for method in ONLINE for fault in ('none', 'empty')]
    (first, second), _, codes = run(jobs, timeout, 60 * len(jobs))
    found: dict[str, Any] = {}
    for method, fault, family in jobs:
        name = f'{family or "segmentor"}, {method}, {fault}'
        nothing = {'end': 'did not get there', 'weights': None, 'finite': False}
        one, other = (rank.get(name, nothing) for rank in (first, second))
        right = one['weights'] == other['weights'] and one['end'] == other['end']
        right &= one['finite'] or fault == 'exploding'
        if fault == 'slow':  # as if it had not been
            right &= one['weights'] == first[name.replace('slow', 'none')]['weights']
        found[name] = {'end': _shortened(one['end']), 'right': right and _as_expected(fault, one['end'])}
    return found if codes == [0, 0] else {**found, 'processes': {'end': f'exit codes {codes}', 'right': False}}


def _as_expected(fault: str, end: str) -> bool:
    if fault in ('nan loss', 'inf image'):
        return end.startswith('NonFiniteLossError: non-finite loss at iteration 3 (role ') and 'on rank 1' in end
    if fault == 'exploding':
        return end.startswith('NonFiniteLossError: non-finite loss at iteration 4 (role ')
    return end == 'finished'


def fatal(timeout: float) -> dict[str, Any]:
    """Run everything that one rank does not come through; the seconds are those until the other had ended, too."""
    found: dict[str, Any] = {}
    for method in ONLINE:
        for fault in FATAL:
            name = f'segmentor, {method}, {fault}'
            (first, _), moments, codes = run([(method, fault, '')], timeout, 300 + timeout)
            ended = first.get(name, {'end': 'did not end', 'at': time.time()})
            seconds = round(ended['at'] - min(moments, default=0.0), 1)
            right = codes[0] is not None and ended['end'] not in ('did not end', 'finished')
            right &= seconds < (timeout if fault == 'stuck' else 0) + SLACK
            found[name] = {'end': _shortened(ended['end']), 'seconds': seconds, 'right': right}
            console.print(name, found[name])
    return found


def _shortened(end: str) -> str:
    """An error without its source file, address and advice."""
    return re.sub(r'\[/\S+\] | ?\[[\d.]+\]:\d+:?', '', end.partition('\n')[0]).partition('. ')[0].partition(' (')[0]


def main() -> int:
    """Run; returns 1 if a rank waited too long or the two ended apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--timeout', type=float, default=30.0, help='seconds that a rank waits for another')
    args = parser.parse_args()
    found = dict(timeout=args.timeout, fatal=fatal(args.timeout), survived=survived(600.0))
    runs = {**found['fatal'], **found['survived']}
    wrong = [name for name, result in runs.items() if not result['right']]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({'runs': len(runs), 'wrong': wrong, **found}, indent=1) + '\n')
    console.print(f'{len(runs)} runs, wrong: {wrong}')
    return int(bool(wrong))


if __name__ == '__main__':
    sys.exit(main())
