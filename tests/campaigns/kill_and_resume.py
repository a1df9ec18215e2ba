"""Kill one training twenty times at random moments, resume it each time, and compare it with one that was never killed.

An online pair with an optimiser for each role, an average of the student's weights and bfloat16. Moments lie anywhere
after something new was saved, and in turn while a checkpoint is written, in validation, and while the best is replaced.
``python tests/campaigns/kill_and_resume.py`` writes ``benchmarks/campaigns/kill_and_resume.json``.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path

import torch
from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import forked  # noqa: E402
import mmseg.apis  # noqa: E402, F401  before the fork
from small_trainings import role_config, write_images  # noqa: E402

from mmadm.cli import train  # noqa: E402
from mmadm.utils.checkpoint import read_checkpoint  # noqa: E402
from mmadm.utils.errors import CheckpointError  # noqa: E402

OUT = ROOT / 'benchmarks' / 'campaigns' / 'kill_and_resume.json'
ITERATIONS, INTERVAL = 300, 2
#: Moments in turn, and the iterations after which any is right: in seconds a quick machine would end before the last
KINDS, PATIENCE = ('anywhere', 'writing', 'validation', 'best'), 6
console = Console()


def write_config(folder: Path) -> Path:
    """The training, as a file."""
    cfg = role_config(folder / 'data', ITERATIONS, role_val=True)
    cfg.default_hooks.checkpoint.update(interval=INTERVAL, max_keep_ckpts=3, save_best='student/mIoU', rule='greater')
    cfg.train_cfg.val_interval = 5
    cfg.custom_hooks = [dict(type='mmadm.RoleEMAHook')]
    path = folder / 'pair.py'
    cfg.dump(str(path))
    return path


def start(path: Path, work_dir: Path) -> ForkProcess:
    """Train, going on from the newest checkpoint if there is one."""
    words = [str(path), '--work-dir', str(work_dir), '--amp', '--resume']
    return forked.start(partial(train.main, words), work_dir.with_suffix('.log'))


def unreadable(work_dir: Path) -> list[str]:
    """Checkpoints that cannot be read."""
    wrong = []
    for file in work_dir.glob('*.pth'):
        try:
            read_checkpoint(file)
        except CheckpointError as error:
            wrong.append(str(error))
    return wrong


def newest(work_dir: Path) -> int:
    """Iteration of the newest checkpoint, 0 if there is none."""
    return max((int(file.stem[5:]) for file in work_dir.glob('iter_*.pth') if file.stem[5:].isdigit()), default=0)


def moment(kind: str, work_dir: Path, draw: random.Random) -> bool:
    """Whether it is the moment to kill a training."""
    if kind == 'anywhere':
        time.sleep(draw.uniform(0, 0.6))
        return True
    if kind == 'validation':
        lines = work_dir.with_suffix('.log').read_text(errors='replace').strip().splitlines()
        return bool(lines) and 'Iter(val)' in lines[-1]
    time.sleep(0.0005)
    return any(work_dir.glob(f'{"best" if kind == "best" else "iter"}_*.tmp'))


def killed_run(path: Path, work_dir: Path, kills: int, draw: random.Random) -> tuple[Counter[str], list[str]]:
    """Train with kills; returns when it was killed how often, and the files that could not be read."""
    done: Counter[str] = Counter()
    wrong: list[str] = []
    while True:
        process, before = start(path, work_dir), len(list(work_dir.glob('iter_*.pth')))
        began = newest(work_dir)
        if done.total() < kills:
            # not before it has saved something new, so that it gets on
            while process.is_alive() and newest(work_dir) <= began:
                time.sleep(0.02)
            kind = KINDS[done.total() % len(KINDS)]
            while process.is_alive() and not moment(kind, work_dir, draw):
                if newest(work_dir) > began + PATIENCE:
                    kind = 'anywhere'
            if process.is_alive():
                process.kill()
                done[kind] += 1
        process.join()
        if process.exitcode == 0:
            return done, wrong
        assert process.exitcode == -signal.SIGKILL, work_dir.with_suffix('.log').read_text()[-2000:]
        wrong += unreadable(work_dir)
        console.print(f'kill {done.total()}: {before} checkpoints before, {len(wrong)} unreadable')


def main() -> int:
    """Run; returns 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / 'data')
        path = write_config(folder)
        for work_dir in ('whole', 'killed'):
            (folder / work_dir).mkdir()
        process = start(path, folder / 'whole')
        process.join()
        assert process.exitcode == 0, (folder / 'whole.log').read_text()[-2000:]
        kills, wrong = killed_run(path, folder / 'killed', args.kills, random.Random(args.seed))
        states = [read_checkpoint(folder / d / f'iter_{ITERATIONS}.pth') for d in ('whole', 'killed')]
        whole, killed = (state['state_dict'] for state in states)
        differ = [key for key in whole if not torch.equal(whole[key], killed[key])]
        files = [
            sorted(f.name for f in (folder / d).glob('*') if f.suffix in ('.pth', '.tmp')) for d in ('whole', 'killed')
        ]
    stray = sorted(set(files[1]) - set(files[0]))
    found = dict(
        kills=kills.total(),
        moments=dict(kills),
        unreadable=wrong,
        tensors=len(whole),
        differ=differ,
        files=files[0],
        stray=stray,
    )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + '\n')
    console.print(found)
    return int(bool(wrong or differ or found['stray'] or kills.total() < args.kills))


if __name__ == '__main__':
    sys.exit(main())
