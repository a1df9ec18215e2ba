"""The guard: what it refuses, and what is left of a training that breaks."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from small_trainings import role_config, runner_of, same, stock_config, weights_of, write_images

from mmadm.utils.checkpoint import RESUMABLE, read_checkpoint
from mmadm.utils.errors import ConfigError, NonFiniteLossError


class Spoil(Hook):
    """Makes an image of iteration 4 infinitely bright, so that BatchNorm statistics break with the loss."""

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            data_batch['inputs'][0] = torch.full((3, 32, 32), torch.inf)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def cfg(data):
    """Five iterations, saved after each, with validation before the one that breaks."""
    return role_config(data, iterations=5, save_interval=1, val_interval=3)


@pytest.fixture(scope='module')
def whole(cfg, tmp_path_factory) -> Path:
    """Work dir of a training in which nothing goes wrong."""
    folder = tmp_path_factory.mktemp('whole')
    runner_of(cfg, folder).train()
    return folder


@pytest.fixture(scope='module')
def broken(cfg, tmp_path_factory) -> Path:
    """Work dir of one that breaks in iteration 4."""
    folder = tmp_path_factory.mktemp('broken')
    with pytest.raises(NonFiniteLossError, match='iteration 4'):
        runner_of(cfg, folder, custom_hooks=[Spoil()]).train()
    return folder


def test_the_state_before_the_broken_iteration_is_kept(broken, whole):
    last, good = broken / 'last_good_iter_3.pth', whole / 'iter_3.pth'
    assert same(weights_of(last), weights_of(good))
    assert all(torch.isfinite(value).all() for value in weights_of(last).values())
    assert set(RESUMABLE) < set(read_checkpoint(last))
    assert same(weights_of(broken / 'last_good_iter_3_student.pth'), weights_of(whole / 'iter_3_student.pth'))


def test_the_other_checkpoints_stay_as_they_were(broken, whole):
    kept = {f'iter_{number}{end}.pth' for number in (1, 2, 3) for end in ('', '_student')}
    assert {path.name for path in broken.glob('*.pth*')} == kept | {
        'last_good_iter_3.pth',
        'last_good_iter_3_student.pth',
    }
    for name in kept:
        assert same(weights_of(broken / name), weights_of(whole / name))


def test_going_on_from_it_equals_a_training_that_never_broke(broken, whole, cfg, tmp_path):
    runner_of(cfg, tmp_path, resume=True, load_from=str(broken / 'last_good_iter_3.pth')).train()
    assert same(weights_of(tmp_path / 'iter_5.pth'), weights_of(whole / 'iter_5.pth'))


def test_the_guard_does_not_change_a_training(whole, cfg, tmp_path):
    cfg = copy.deepcopy(cfg)
    cfg.default_hooks.pop('guard')
    runner_of(cfg, tmp_path).train()
    assert same(weights_of(tmp_path / 'iter_5.pth'), weights_of(whole / 'iter_5.pth'))


class Explode(Hook):
    """Makes a gradient of the teacher infinite in iteration 2, while the loss is finite."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1:
            weight = runner.model.roles['teacher'].decode_head.conv_seg.weight
            weight.register_hook(lambda gradient: gradient * torch.inf)


def test_weights_that_a_gradient_has_broken_are_not_called_good(cfg, tmp_path, capfd):
    with pytest.raises(NonFiniteLossError, match=r"iteration 3 .*role 'teacher'"):
        runner_of(cfg, tmp_path, custom_hooks=[Explode()]).train()
    assert not list(tmp_path.glob('last_good*'))
    assert "the weights of ['teacher'] were not finite before this iteration" in ''.join(capfd.readouterr())


def test_a_full_disk_does_not_hide_the_loss(cfg, tmp_path, monkeypatch):
    replace = os.replace

    def full_disk(source, target):
        if Path(target).name.startswith('last_good'):
            raise OSError(28, 'No space left on device')
        replace(source, target)

    monkeypatch.setattr(os, 'replace', full_disk)
    with pytest.raises(NonFiniteLossError, match='iteration 4'):
        runner_of(cfg, tmp_path, custom_hooks=[Spoil()]).train()
    assert not list(tmp_path.glob('last_good*'))


class CopyModel(Hook):
    """Copies the model during training, as averaging its weights does, and looks at the callback."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        copied = copy.deepcopy(runner.model)
        self.same_callback = copied.check_losses is runner.model.check_losses is not None


def test_a_copy_of_the_model_in_training_does_not_copy_the_runner(data, tmp_path):
    hook = CopyModel()
    runner = runner_of(role_config(data, iterations=1), tmp_path, custom_hooks=[hook])
    runner.train()
    assert hook.same_callback
    assert runner.model.check_losses is None


def test_labels_out_of_range_stop_before_anything_is_trained(tmp_path):
    data = write_images(tmp_path / 'data', wrong_label=9)
    with pytest.raises(ConfigError, match=r'ann/train/7\.png: label ids \[9\] are outside 0\.\.4'):
        runner_of(role_config(data), tmp_path / 'work').train()
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_without_the_check_of_labels_the_rest_of_the_guard_works(cfg, tmp_path):
    cfg = copy.deepcopy(cfg)
    cfg.default_hooks.guard.check_labels = False
    wrong = role_config(write_images(tmp_path / 'data', wrong_label=9))
    wrong.default_hooks.guard.check_labels = False
    with pytest.raises(IndexError, match='Target 9 is out of bounds'):
        runner_of(wrong, tmp_path / 'work').train()
    with pytest.raises(NonFiniteLossError, match='iteration 4'):
        runner_of(cfg, tmp_path / 'broken', custom_hooks=[Spoil()]).train()
    assert (tmp_path / 'broken/last_good_iter_3.pth').is_file()


def test_a_work_dir_that_cannot_be_written_to_stops_the_start(data, tmp_path):
    runner = runner_of(role_config(data), tmp_path / 'work')
    shutil.rmtree(tmp_path / 'work')
    (tmp_path / 'work').touch()
    with pytest.raises(ConfigError, match=r'work_dir=.*work. cannot be written to: (Not a directory|File exists)'):
        runner.train()
    assert runner.iter == 0


def test_a_stock_model_trains_under_it(data, tmp_path):
    cfg = stock_config(data, iterations=2)
    cfg.default_hooks.guard = dict(type='mmadm.NonFiniteGuardHook')
    runner = runner_of(cfg, tmp_path)
    runner.train()
    assert runner.iter == 2
