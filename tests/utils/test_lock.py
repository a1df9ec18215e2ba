"""Two trainings in one work dir: the second is told, and a killed one leaves nothing in the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from mmengine.config import Config

from mmadm.utils.errors import ConfigError
from mmadm.utils.lock import join_ranks, sole_training

FORK = multiprocessing.get_context('fork')


def _hold(work_dir: Path, held, worker) -> None:
    """Be a training with a forked worker, as a data loader has, that outlives it."""
    with sole_training(work_dir):
        child = os.fork()
        if child == 0:
            signal.pause()
        worker.value = child
        held.set()
        signal.pause()


@pytest.fixture
def other(tmp_path):
    """A training in another process, and the number of its worker's process."""
    held, worker = FORK.Event(), FORK.Value('i', 0)
    process = FORK.Process(target=_hold, args=(tmp_path, held, worker))
    process.start()
    assert held.wait(30)
    yield process, worker.value
    os.kill(worker.value, signal.SIGKILL)
    process.kill()
    process.join()


def test_the_second_training_is_told_which_process_is_there(tmp_path, other):
    link = tmp_path / 'link'
    link.symlink_to(tmp_path)
    for work_dir in (tmp_path, link):
        with pytest.raises(ConfigError, match=rf'in use by another training \(process {other[0].pid} on '):
            sole_training(work_dir).__enter__()


def test_a_killed_training_is_in_nobodys_way_though_its_worker_lives(tmp_path, other):
    other[0].kill()
    other[0].join()
    os.kill(other[1], 0)
    with sole_training(tmp_path):
        assert (tmp_path / '.training.lock').read_text().startswith(f'process {os.getpid()} on ')


def test_one_after_the_other(tmp_path):
    for _ in range(2):
        with sole_training(tmp_path):
            assert (tmp_path / '.training.lock').read_text().startswith(f'process {os.getpid()} on ')


@pytest.mark.parametrize(('launcher', 'made'), [('none', []), ('slurm', [('slurm', dict(backend='gloo', timeout=9))])])
def test_a_launched_training_joins_its_ranks_as_the_runner_would(monkeypatch, launcher, made):
    found = []
    monkeypatch.setattr('mmadm.utils.lock.init_dist', lambda launcher, **settings: found.append((launcher, settings)))
    monkeypatch.setattr('mmadm.utils.lock.set_multi_processing', lambda **_: None)
    join_ranks(Config(dict(launcher=launcher, env_cfg=dict(dist_cfg=dict(backend='gloo', timeout=9)))))
    assert found == made


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(95, 'Operation not supported')

    monkeypatch.setattr('mmadm.utils.lock.fcntl.lockf', unknown)
    with sole_training(tmp_path):
        pass
