"""``mmadm distill`` on stock training configs of many kinds: what it writes is read, built and trained."""

from __future__ import annotations

from inspect import signature

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from small_trainings import losses_of, runner_of
from stock_trainings import STOCK, write_data, write_stock_config

from mmadm.cli import distill


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp('stock'))


@pytest.mark.parametrize('kind', STOCK)
def test_a_stock_training_becomes_a_distillation(kind, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_stock_config(kind, 8, data, tmp_path / 'student.py')
    write_stock_config(kind, 12, data, tmp_path / 'teacher.py')
    by_epoch = 'max_epochs' in Config.fromfile('student.py').train_cfg
    length = ['train_cfg.max_epochs=1'] if by_epoch else ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    often = ['default_hooks.logger.interval=1', *([] if by_epoch else ['default_hooks.checkpoint.interval=2'])]
    distill.main(['student.py', 'teacher.py', '--method', 'adm', '--set', *length, *often])
    cfg = Config.fromfile('adm_student.py')
    cfg.visualizer.name = kind  # those of one process with one name share their files
    known = signature(Runner).parameters
    runner_of(Config({key: value for key, value in cfg.items() if key in known}), tmp_path / 'run').train()
    assert list((tmp_path / 'run').glob('*_student.pth'))
    logged = losses_of(tmp_path / 'run')
    assert all({'student.loss', 'teacher.loss', 'student.loss_consensus'} <= set(entry) for entry in logged.values())
    assert len(logged) == 2
    assert cfg.train_dataloader == Config.fromfile('student.py').train_dataloader
