"""A training that is killed and resumed ends as if nothing had happened."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch
from small_trainings import losses_of, role_config, same, weights_of, write_images
from warm_processes import start_tool

from mmadm.utils.checkpoint import read_checkpoint

ITERATIONS = 9


@dataclass
class Runs:
    """Work dirs of an uninterrupted training and of one that was killed and resumed."""

    whole: Path
    resumed: Path
    killed_with: set[str]
    log: str


def finish(process: ForkServerProcess, log: Path, code: int = 0) -> None:
    """Wait for a training and check how it ended."""
    process.join(240)
    assert process.exitcode == code, log.read_text()[-3000:]


def kill_at(flag: Path, process: ForkServerProcess, log: Path) -> None:
    """SIGKILL a training once it has reached its halt."""
    deadline = time.monotonic() + 240
    while not flag.exists():
        assert process.is_alive(), log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)
    process.kill()
    process.join()


def kill_and_resume(folder: Path, data: Path, persistent: bool, save_interval: int) -> Runs:
    """Run one training whole, and the same one killed and resumed, at the same time.

    Validation is every 4 iterations. Without persistent workers the process dies in the second writing of iter_4.pth,
    which is due to the first best score. With them it is killed in iteration 8, and the note of the newest checkpoint,
    iter_6.pth, is emptied.
    """
    cfg = role_config(
        data, ITERATIONS, role_val=True, workers=2, persistent=persistent, val_interval=4, save_interval=save_interval
    )
    cfg.default_hooks.checkpoint.save_best = 'student/mIoU'
    cfg.custom_imports = dict(imports=['halting_hook'], allow_failed_imports=False)
    cfg.custom_hooks = [dict(type='mmengine.Halt')]
    cfg.dump(folder / 'cfg.py')
    whole, broken, flag = folder / 'whole', folder / 'broken', folder / 'halted'
    logs = [folder / f'{name}.log' for name in ('whole', 'broken', 'resumed')]
    first = start_tool('train.py', logs[0], folder / 'cfg.py', '--work-dir', whole)
    harm = {'HALT': f'7:{flag}'} if persistent else {'TEAR': 'iter_4.pth:2'}
    second = start_tool('train.py', logs[1], folder / 'cfg.py', '--work-dir', broken, **harm)
    if persistent:
        kill_at(flag, second, logs[1])
        (broken / 'last_checkpoint').write_text('')
    else:
        finish(second, logs[1], -signal.SIGKILL)
    left = {path.name for path in broken.glob('*.pth*')}
    finish(start_tool('train.py', logs[2], folder / 'cfg.py', '--work-dir', broken, '--resume'), logs[2])
    finish(first, logs[0])
    return Runs(whole, broken, left, logs[2].read_text())


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module', params=['in the middle', 'while writing'])
def runs(request, data, tmp_path_factory) -> Runs:
    persistent = request.param == 'in the middle'
    return kill_and_resume(tmp_path_factory.mktemp('resume'), data, persistent, save_interval=3 if persistent else 4)


def test_the_training_went_on_from_the_newest_complete_checkpoint(runs):
    if 'iter_6.pth' in runs.killed_with:
        assert list(losses_of(runs.resumed)) == [7, 8, 9]
    else:
        assert 'iter_4.pth.tmp' in runs.killed_with
        assert list(losses_of(runs.resumed)) == [5, 6, 7, 8, 9]


def test_every_iteration_has_the_losses_of_the_uninterrupted_run(runs):
    whole = losses_of(runs.whole)
    assert list(whole) == list(range(1, ITERATIONS + 1))
    resumed = losses_of(runs.resumed)
    assert resumed == {step: whole[step] for step in resumed}
    assert len({whole[step]['loss'] for step in whole}) == ITERATIONS


def test_every_checkpoint_is_that_of_the_uninterrupted_run(runs):
    # a validation during which the process was killed is not repeated, so there may be another best one
    left = {path.name for path in runs.resumed.glob('*.pth*')}
    both = left & {path.name for path in runs.whole.glob('*.pth')}
    assert {'iter_9.pth', 'iter_9_student.pth', 'iter_4.pth'} < both
    for name in both:
        assert same(weights_of(runs.resumed / name), weights_of(runs.whole / name))
    assert not [name for name in left if name.endswith('.tmp')]


def test_the_optimisers_and_schedules_are_those_of_the_uninterrupted_run(runs):
    whole, resumed = (read_checkpoint(folder / 'iter_9.pth') for folder in (runs.whole, runs.resumed))
    assert flat(whole['param_schedulers']) == flat(resumed['param_schedulers'])
    assert set(whole['optimizer']) == {'student', 'teacher'}
    assert flat(whole['optimizer']) == flat(resumed['optimizer'])


def flat(node: object) -> object:
    """Nested containers with tensors as lists, so that they can be compared."""
    if isinstance(node, torch.Tensor):
        return node.tolist()
    if isinstance(node, dict):
        return {key: flat(value) for key, value in node.items()}
    return [flat(value) for value in node] if isinstance(node, list | tuple) else node
