"""Validation by role."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmseg.structures import SegDataSample
from tiny import segmentor
from tiny_runs import role_config, runner_of, same, stock_config, write_images

from mmadm.engine import RoleValLoop
from mmadm.utils.errors import ConfigError


class Watch(Hook):
    """Counts validations, and fails in the middle of the second one if asked to."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.predicting: list[str] = []
        self.outputs: list[list[SegDataSample]] = []
        self.fail = False

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.predicting.append(runner.model.predicting)
        self.outputs.append(outputs)
        if self.fail:
            raise InterruptedError

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(dict(metrics))


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def both(data, tmp_path_factory):
    """A runner that has scored both roles once, and its watch."""
    watch = Watch()
    cfg = role_config(data, role_val=True)
    cfg.default_hooks.checkpoint.save_best = 'student/mIoU'  # must not hinder a validation without training
    runner = runner_of(cfg, tmp_path_factory.mktemp('both'), custom_hooks=[watch])
    runner.model.init_weights()
    runner.val()
    return runner, watch


@pytest.mark.parametrize(('role', 'width'), [('student', 4), ('teacher', 8)])
def test_the_scores_are_those_of_the_stock_model(both, data, tmp_path, role, width):
    _, watch = both
    runner = runner_of(stock_config(data), tmp_path, model=ConfigDict(segmentor(width)))
    runner.model.load_state_dict(both[0].model.roles[role].state_dict())
    stock = runner.val()
    assert {key: value for key, value in watch.metrics[0].items() if key.startswith(role)} == {
        f'{role}/{key}': value for key, value in stock.items()
    }
    assert stock['mIoU'] > 0


def test_hooks_see_one_validation_with_the_metrics_of_all_roles(both):
    runner, watch = both
    assert len(watch.metrics) == 1
    assert list(watch.metrics[0]) == [f'{r}/{m}' for r in ('student', 'teacher') for m in ('aAcc', 'mIoU', 'mAcc')]
    assert watch.predicting == ['student', 'teacher'] * 3
    assert runner.model.predicting == 'student'


def test_the_roles_do_not_write_over_each_others_predictions(both):
    metrics = both[1].metrics[0]
    assert metrics['student/aAcc'] != metrics['teacher/aAcc']
    (student,), (teacher,) = both[1].outputs[:2]
    assert (student.pred_sem_seg.data != teacher.pred_sem_seg.data).any()


def test_the_deploy_role_alone(data, tmp_path):
    cfg = role_config(data)
    cfg.model.deploy = 'teacher'
    runner = runner_of(cfg, tmp_path)
    assert list(runner.val()) == ['teacher/aAcc', 'teacher/mIoU', 'teacher/mAcc']


def test_an_error_leaves_the_model_predicting_by_the_former_role(data, tmp_path):
    watch = Watch()
    runner = runner_of(role_config(data, role_val=True), tmp_path, custom_hooks=[watch])
    runner.model.predicting = 'teacher'
    watch.fail = True
    with pytest.raises(InterruptedError):
        runner.val()
    assert watch.predicting == ['student']
    assert runner.model.predicting == 'teacher'


@pytest.mark.parametrize('hook', ['mmadm.RoleCheckpointHook', 'CheckpointHook'])
def test_scoring_a_second_role_does_not_change_the_training(data, tmp_path, hook):
    weights = []
    for role_val in (False, True):
        cfg = role_config(data, iterations=3, role_val=role_val)
        cfg.default_hooks.checkpoint.type = hook
        runner = runner_of(cfg, tmp_path / str(role_val))
        runner.train()
        weights.append(runner.model.state_dict())
    assert same(*weights)


def test_a_model_without_roles_is_refused(data, tmp_path):
    runner = runner_of(stock_config(data), tmp_path, val_cfg=dict(type='mmadm.RoleValLoop'))
    with pytest.raises(ConfigError, match=r'val_cfg\.type: .*EncoderDecoder has none; use ValLoop'):
        runner.val()


def test_the_loop_is_a_val_loop_of_mmengine(both):
    assert isinstance(both[0].val_loop, RoleValLoop)
