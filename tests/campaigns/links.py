"""Work dirs with links in them, and two trainings in one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from forked import Ended

ROOT = Path(__file__).resolve().parents[2]
#: Words of the command, and what is wrong after it
Scenario = tuple[list[str], Callable[[Ended], Iterator[str]]]


def goes_on(folder: Path, *unharmed: Path, work: Path | None = None) -> Scenario:
    """Resume in a work dir, which must end well and leave files as they are."""
    before = {file: file.read_bytes() for file in unharmed}
    work = work or folder / 'work'

    def check(ended: Ended) -> Iterator[str]:
        """Look at what is there."""
        if ended.code != 0:
            yield f'stopped: {ended.sentence}'
        elif not (work / 'iter_3.pth').is_file():
            yield 'iter_3.pth is missing'
        for file, content in before.items():
            if not file.is_file() or file.read_bytes() != content:
                yield f'{file.name} was harmed'

    return ['--work-dir', str(work), '--resume'], check


def stops(work: Path, *words: str) -> Scenario:
    """Resume where that cannot go well."""

    def check(ended: Ended) -> Iterator[str]:
        """Look at the end."""
        if not ended.sentence or not all(word in ended.sentence for word in words):
            yield f'no such sentence: {ended.sentence}'

    return ['--work-dir', str(work), '--resume'], check


def work_dir_is_a_link(folder: Path) -> Scenario:
    """To the real one."""
    (folder / 'link').symlink_to(folder / 'work')
    return goes_on(folder, folder / 'work/iter_2.pth', work=folder / 'link')


def note_is_a_link(folder: Path) -> Scenario:
    """To the checkpoint itself, as ``latest.pth`` was in mmcv."""
    note = folder / 'work/last_checkpoint'
    note.unlink()
    note.symlink_to(folder / 'work/iter_2.pth')
    return goes_on(folder, folder / 'work/iter_2.pth')


def note_is(folder: Path, content: bytes) -> Scenario:
    """Nothing that names a checkpoint."""
    (folder / 'work/last_checkpoint').write_bytes(content)
    return goes_on(folder, folder / 'work/iter_2.pth')


def checkpoint_elsewhere(folder: Path) -> Scenario:
    """The newest one is a link to another place."""
    elsewhere = folder / 'elsewhere.pth'
    (folder / 'work/iter_2.pth').rename(elsewhere)
    (folder / 'work/iter_2.pth').symlink_to(elsewhere)
    return goes_on(folder, elsewhere)


def written_over_a_link(folder: Path) -> Scenario:
    """A link stands where the next checkpoint goes."""
    elsewhere = folder / 'elsewhere.pth'
    elsewhere.write_bytes(b'mine')
    (folder / 'work/iter_3.pth').symlink_to(elsewhere)
    return goes_on(folder, elsewhere, folder / 'work/iter_2.pth')


def aside_is_a_link(folder: Path) -> Scenario:
    """A link stands where files are written aside."""
    elsewhere = folder / 'elsewhere.pth'
    elsewhere.write_bytes(b'mine')
    (folder / 'work/iter_3.pth.tmp').symlink_to(elsewhere)
    return goes_on(folder, elsewhere)


def one_leads_nowhere(folder: Path) -> Scenario:
    """One of two checkpoints does."""
    (folder / 'work/last_checkpoint').unlink()
    (folder / 'work/iter_9.pth').symlink_to('/nowhere/iter_9.pth')
    return goes_on(folder, folder / 'work/iter_2.pth')


def all_lead_nowhere(folder: Path) -> Scenario:
    """The only checkpoint does."""
    (folder / 'work/iter_2.pth').unlink()
    (folder / 'work/iter_2.pth').symlink_to('/nowhere/iter_2.pth')
    return stops(folder / 'work', 'iter_2.pth')


def note_is_a_folder(folder: Path) -> Scenario:
    """Which no training can write its note to."""
    (folder / 'work/last_checkpoint').unlink()
    (folder / 'work/last_checkpoint').mkdir()
    return stops(folder / 'work', 'last_checkpoint')


def work_dir_leads_nowhere(folder: Path) -> Scenario:
    """It is a link to nothing."""
    (folder / 'link').symlink_to('/nowhere/at/all')
    return stops(folder / 'link', 'cannot be written to')


def work_dir_leads_to_itself(folder: Path) -> Scenario:
    """It is a link to itself."""
    (folder / 'link').symlink_to(folder / 'link')
    return stops(folder / 'link', 'cannot be written to')


LINKS: dict[str, Callable[[Path], Scenario]] = {
    'the work dir is a link': work_dir_is_a_link,
    'the work dir leads nowhere': work_dir_leads_nowhere,
    'the work dir leads to itself': work_dir_leads_to_itself,
    'last_checkpoint is a link to the checkpoint': note_is_a_link,
    'last_checkpoint is a folder': note_is_a_folder,
    'last_checkpoint is empty': lambda folder: note_is(folder, b''),
    'last_checkpoint is a long text': lambda folder: note_is(folder, b'x' * 100000),
    'last_checkpoint has zeros': lambda folder: note_is(folder, b'a\0b'),
    'last_checkpoint is binary': lambda folder: note_is(folder, bytes(range(256))),
    'the checkpoint is a link': checkpoint_elsewhere,
    'a link where the next one goes': written_over_a_link,
    'a link where it is written aside': aside_is_a_link,
    'one checkpoint leads nowhere': one_leads_nowhere,
    'the only checkpoint leads nowhere': all_lead_nowhere,
}


def two_trainings(folder: Path, config: Path) -> Iterator[tuple[str, Ended, list[str]]]:
    """Start a training beside another one, and resume one at once after it was killed.

    Yields:
        What was tried, how the second training ended, and what is wrong with that.
    """
    work, options = folder / 'shared', ['--cfg-options', 'train_cfg.max_iters=100000', 'train_dataloader.num_workers=2']
    first = _start(config, work, folder / 'first.log', *options)
    while not (work / 'iter_2.pth').is_file() and first.poll() is None:
        time.sleep(0.1)
    before = sorted(path.name for path in work.iterdir() if path.suffix in ('', '.py'))
    second = _ended(_start(config, work, folder / 'second.log', '--resume'), folder / 'second.log')
    after = sorted(path.name for path in work.iterdir() if path.suffix in ('', '.py'))
    wrong = [] if 'is in use by another training' in second.sentence else ['the second training was not refused']
    yield 'a second training', second, wrong + ['it left something'] * (before != after)
    first.send_signal(signal.SIGKILL)
    first.wait()
    reached = max(int(path.stem[5:]) for path in work.glob('iter_*.pth') if path.stem[5:].isdigit())
    options = ['--resume', '--cfg-options', f'train_cfg.max_iters={reached + 2}']
    third = _ended(_start(config, work, folder / 'third.log', *options), folder / 'third.log')
    yield 'a resume at once after a kill', third, ['it did not go on'] * (third.code != 0)


def _start(config: Path, work: Path, log: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, '-m', 'mmadm', 'train', str(config), '--work-dir', str(work), *words]
    with log.open('wb') as output:
        env = dict(os.environ, PYTHONPATH=str(ROOT))
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)


def _ended(process: subprocess.Popen[bytes], log: Path) -> Ended:
    try:
        code: int | None = process.wait(180)
    except subprocess.TimeoutExpired:
        process.kill()
        code = None
    return Ended(code, log.read_text(errors='replace'))
