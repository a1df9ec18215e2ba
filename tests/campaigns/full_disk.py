"""Train where the disk becomes full or read-only, or files may not grow, and see what is left.

Disks are small tmpfs mounts of many sizes and numbers of files, a disk that something else fills in the middle of a
training, and a folder over which a read-only mount comes; without the right to mount, only the limit on the size of
files is tried (RLIMIT_FSIZE, as of a quota). After each the training is resumed where there is room.
``python tests/campaigns/full_disk.py`` writes ``benchmarks/campaigns/full_disk.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import mmseg.apis  # noqa: E402, F401  before the fork
from forked import Ended, run  # noqa: E402
from small_trainings import role_config, write_images  # noqa: E402

from mmadm.cli import export, train, visualize  # noqa: E402
from mmadm.utils.checkpoint import noted_checkpoint, read_checkpoint  # noqa: E402
from mmadm.utils.errors import CheckpointError  # noqa: E402

OUT = ROOT / 'benchmarks' / 'campaigns' / 'full_disk.json'
ITERATIONS, LIMIT = 6, 240
console = Console()
#: What happens in the middle of a training: before which iteration, and what
harm: tuple[int, Callable[[Path], object]] | None = None


@HOOKS.register_module()
class Harm(Hook):
    """Does the harm of this campaign."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Do it, once."""
        if harm is not None and runner.iter == harm[0]:
            harm[1](Path(runner.work_dir))


def write_config(folder: Path) -> Path:
    """The training, as a file: a pair that saves, keeps the best, averages and draws."""
    cfg = role_config(folder / 'data', ITERATIONS, role_val=True)
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=1, save_best='student/mIoU', rule='greater')
    cfg.default_hooks.similarity = dict(type='mmadm.SimilarityVisHook', interval=2, images=1)
    cfg.custom_hooks = [dict(type='mmadm.RoleEMAHook'), dict(type='mmengine.Harm')]
    cfg.dump(str(folder / 'pair.py'))
    return folder / 'pair.py'


def train_in(config: Path, work_dir: Path, log: Path, file_size: int | None = None) -> Ended:
    """Train, going on from the newest checkpoint."""

    def work() -> None:
        """In the process."""
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        train.main([str(config), '--work-dir', str(work_dir), '--resume'])

    return run(work, log, LIMIT)


def mount(*words: str | Path) -> None:
    """Call mount; raises where that is not allowed."""
    subprocess.run(['mount', *map(str, words)], check=True, capture_output=True)


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A small disk at a folder."""
    folder.mkdir(exist_ok=True)
    mount('-t', 'tmpfs', '-o', options, 'tmpfs', folder)
    try:
        yield folder
    finally:
        subprocess.run(['umount', '-l', str(folder)], check=True)


def fill(work_dir: Path) -> None:
    """Fill the disk to the last byte, as another program would."""
    with (work_dir.parent / 'ballast').open('wb', buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b'0' * size)
            except OSError:
                continue


def make_read_only(work_dir: Path) -> None:
    """Lay a read-only view of a folder over itself."""
    mount('--bind', work_dir, work_dir)
    mount('-o', 'remount,bind,ro', work_dir)


def faults(work_dir: Path) -> Iterator[str]:
    """What is wrong with the files of a training that has stopped."""
    files = {file.name for file in work_dir.glob('*') if file.suffix in ('.pth', '.tmp')}
    for name in sorted(files):
        if name.endswith('.tmp'):
            yield f'{name} is left'
            continue
        try:
            read_checkpoint(work_dir / name)
        except CheckpointError as error:
            yield str(error)
        whole = name.removesuffix('.pth').removesuffix('_student')
        partner = f'{whole}.pth' if name.endswith('_student.pth') else f'{whole}_student.pth'
        if partner not in files:
            yield f'{name} without {partner}'
    note = work_dir / 'last_checkpoint'
    if note.is_file() and noted_checkpoint(note) is None:
        yield f'last_checkpoint says {note.read_text()[:80]!r}'


def compare(whole: Path, work_dir: Path) -> Iterator[str]:
    """What of a resumed training is not as if nothing had happened."""
    names = [{file.name for file in d.glob('*') if file.suffix in ('.pth', '.tmp')} for d in (whole, work_dir)]
    # a score of a validation that was cut off is not known, as validation is not repeated; there is one best then, too
    best = sorted(name for name in names[1] if name.startswith('best_'))
    if len(best) != 2:
        yield f'best checkpoints {best}'
    names = [{name for name in some if not name.startswith('best_')} for some in names]
    if names[0] != names[1]:
        yield f'files {sorted(names[0] ^ names[1])}'
    for name in names[0] & names[1]:
        one, other = (read_checkpoint(d / name)['state_dict'] for d in (whole, work_dir))
        if one.keys() != other.keys() or not all(torch.equal(one[key], other[key]) for key in one):
            yield f'{name} differs'


class Campaign:
    """Runs rounds and keeps what they found."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.config, self.seed = folder, write_config(folder), seed
        write_images(folder / 'data')
        self.found: dict[str, dict[str, Any]] = {}
        self.whole = folder / 'whole'
        ended = train_in(self.config, self.whole, folder / 'whole.log')
        assert ended.code == 0, ended.output[-3000:]

    def write(self) -> None:
        """Write the report, as far as it goes."""
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps(dict(seed=self.seed, **self.found), indent=1) + '\n')

    def round(self, kind: str, what: str, first: Ended, work_dir: Path, resume: Callable[[], Ended] | None) -> None:
        """Judge how a training ended, and resume it where there is room again."""
        entry = self.found.setdefault(kind, dict(rounds=0, finished=0, stopped=0, sentences={}, faults=[]))
        entry['rounds'] += 1
        wrong = list(faults(work_dir))
        if first.raw:
            wrong.append(first.raw)
        if first.code == 0:
            entry['finished'] += 1
        else:
            entry['stopped'] += 1
            said = re.sub(r'\d{8}_\d{6}', 'TIME', first.sentence.replace(str(self.folder), ''))
            entry['sentences'][said] = entry['sentences'].get(said, 0) + 1
        if resume is not None:
            second = resume()
            if second.code != 0:
                wrong.append(f'resume: {second.raw or second.sentence}')
            else:
                wrong += compare(self.whole, work_dir)
        entry['faults'] += [f'{what}: {one}'.replace(str(self.folder), '') for one in wrong]
        self.write()
        console.print(f'{kind}, {what}: code {first.code}; {wrong}', markup=False, soft_wrap=True)

    def small_disks(self, kind: str, options: list[str], room: str) -> None:
        """Train on disks that are too small, then make them larger."""
        for number, option in enumerate(options):
            with disk(self.folder / 'disk', option) as place:
                work_dir, logs = place / 'work', self.folder / f'{kind}{number}'.replace(' ', '_')
                first = train_in(self.config, work_dir, logs.with_suffix('.log'))

                def resume(place: Path = place, work_dir: Path = work_dir, logs: Path = logs) -> Ended:
                    """With room."""
                    mount('-o', f'remount,{room}', place)
                    return train_in(self.config, work_dir, logs.with_suffix('.again.log'))

                self.round(kind, option, first, work_dir, resume)

    def harmed(self, kind: str, act: Callable[[Path], object], undo: Callable[[Path], object]) -> None:
        """Let something happen before each iteration."""
        global harm
        for iteration in range(ITERATIONS):
            with disk(self.folder / 'disk', 'size=64m') as place:
                work_dir, log = place / 'work', self.folder / f'{kind}{iteration}.log'.replace(' ', '_')
                harm = iteration, act
                first = train_in(self.config, work_dir, log)
                harm = None
                undo(work_dir)
                again = partial(train_in, self.config, work_dir, log.with_suffix('.again.log'))
                self.round(kind, f'before iteration {iteration + 1}', first, work_dir, again)

    def limited_files(self, sizes: list[int]) -> None:
        """Train with a limit on the size of a file."""
        for size in sizes:
            work_dir, log = self.folder / f'limit{size}', self.folder / f'limit{size}.log'
            first = train_in(self.config, work_dir, log, size)
            again = partial(train_in, self.config, work_dir, log.with_suffix('.again.log'))
            self.round('files may not grow', f'beyond {size} bytes', first, work_dir, again)

    def tools(self) -> None:
        """Write over good files where there is no room."""
        checkpoint = str(self.whole / f'iter_{ITERATIONS}.pth')
        image = str(next((self.folder / 'data').rglob('*.png')))
        with disk(self.folder / 'disk', 'size=1m') as place:
            (place / 'a.pth').write_bytes(b'good')
            (place / 'a.py').write_bytes(b'good')
            fill(place / 'work')
            words = [checkpoint, '--force', '--role', 'student', '--out', str(place / 'a.pth')]
            calls = {
                'export --out': partial(export.main, words),
                'export --config-out': partial(
                    export.main, [*words[:5], '/dev/shm/mmadm_full_disk.pth', '--config-out', str(place / 'a.py')]
                ),
                'visualize': partial(visualize.main, [str(self.config), checkpoint, image, '--out', str(place / 'p')]),
            }
            for name, call in calls.items():
                ended = run(call, self.folder / 'tool.log', LIMIT)
                whole = all((place / file).read_bytes() == b'good' for file in ('a.pth', 'a.py'))
                left = sorted(file.name for file in place.rglob('*.tmp'))
                wrong = [one for one in (ended.raw, *left, '' if whole else 'a good file was harmed') if one]
                if not ended.sentence:
                    wrong.append(f'no sentence, code {ended.code}')
                entry = self.found.setdefault('tools', dict(rounds=0, sentences={}, faults=[]))
                entry['rounds'] += 1
                entry['sentences'][f'{name}: {ended.sentence}'.replace(str(self.folder), '')] = 1
                entry['faults'] += [f'{name}: {one}' for one in wrong]
                console.print(f'{name}: code {ended.code}; {wrong}', markup=False, soft_wrap=True)
        self.write()
        Path('/dev/shm/mmadm_full_disk.pth').unlink(missing_ok=True)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount."""
    try:
        with disk(folder / 'disk', 'size=1m'):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def main() -> int:
    """Run; returns 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=8, help='disks of different sizes')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        campaign = Campaign(Path(name), args.seed)
        sizes = [file.stat().st_size for file in campaign.whole.glob('*.pth')]
        campaign.limited_files([draw.randrange(500, max(sizes)) for _ in range(max(args.rounds // 4, 1))])
        if can_mount(Path(name)):
            # at most two full checkpoints, the best and a file aside are there at a time
            most = (3 * sum(sizes)) // 2
            options = [f'size={draw.randrange(8192, most) // 4096 * 4096}' for _ in range(args.rounds)]
            campaign.small_disks('full disk', options, 'size=64m')
            files = sum(1 for _ in campaign.whole.rglob('*'))
            options = [f'size=64m,nr_inodes={draw.randrange(3, files + 4)}' for _ in range(args.rounds // 2)]
            campaign.small_disks('no more files', options, 'size=64m,nr_inodes=1000')
            campaign.harmed('filled by another', fill, lambda work_dir: os.unlink(work_dir.parent / 'ballast'))
            campaign.harmed(
                'read-only', make_read_only, lambda d: subprocess.run(['umount', '-l', str(d)], check=False)
            )
            campaign.tools()
        else:
            console.print('This process may not mount: only the limit on the size of files was tried.')
    return int(any(entry['faults'] for entry in campaign.found.values()))


if __name__ == '__main__':
    sys.exit(main())
