"""Validation by role."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric, DumpResults, Evaluator
from mmengine.fileio import load
from mmengine.hooks import Hook
from mmengine.registry import METRICS, MODELS
from mmengine.structures import BaseDataElement
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from small_segmentors import segmentor
from small_trainings import role_config, runner_of, same, stock_config, write_images

from mmadm.engine import RoleValLoop
from mmadm.utils.errors import ConfigError


class Watch(Hook):
    """Keeps what hooks are told."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.batches: list[tuple[str, int]] = []
        self.outputs: list[list[SegDataSample]] = []

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append(('before', batch_idx))

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.batches.append(('after', batch_idx))
        self.outputs.append(outputs)
        # the samples of the batch are those that the network wrote into, as in stock
        assert outputs[0].gt_sem_seg.data is data_batch['data_samples'][0].gt_sem_seg.data

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(dict(metrics))


@METRICS.register_module()
class Interrupts(BaseMetric):
    """Fails at the first batch."""

    def process(self, data_batch, data_samples):
        raise InterruptedError

    def compute_metrics(self, results):
        return {}


@MODELS.register_module()
class GivesLosses(EncoderDecoder):
    """A segmentor that gives its losses in validation, by the protocol of mmengine."""

    def val_step(self, data):
        data = self.data_preprocessor(data, False)
        losses = {key: value.mean() for key, value in self(**data, mode='loss').items()}
        return [*self(**data, mode='predict'), BaseDataElement(loss=losses)]


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
    assert watch.batches == [(when, index) for index in range(3) for when in ('before', 'after')]
    assert runner.model.predicting == 'student'


def test_the_roles_do_not_write_over_each_others_predictions(both):
    metrics = both[1].metrics[0]
    assert metrics['student/aAcc'] != metrics['teacher/aAcc']


def test_hooks_are_told_what_the_deploy_role_predicts(both, data):
    runner, watch = both
    batch = next(iter(runner.val_dataloader))
    (student,) = runner.model.roles['student'].val_step(deepcopy(batch))
    (teacher,) = runner.model.roles['teacher'].val_step(deepcopy(batch))
    (told,) = watch.outputs[0]
    assert torch.equal(told.pred_sem_seg.data, student.pred_sem_seg.data)
    assert not torch.equal(told.pred_sem_seg.data, teacher.pred_sem_seg.data)


def test_the_deploy_role_alone(data, tmp_path):
    cfg = role_config(data)
    cfg.model.deploy = 'teacher'
    runner = runner_of(cfg, tmp_path)
    assert list(runner.val()) == ['teacher/aAcc', 'teacher/mIoU', 'teacher/mAcc']


def test_an_error_leaves_the_model_predicting_by_the_former_role(data, tmp_path):
    cfg = role_config(data, role_val=True)
    cfg.val_evaluator = dict(type='mmengine.Interrupts')
    runner = runner_of(cfg, tmp_path)
    runner.model.predicting = 'teacher'
    with pytest.raises(InterruptedError):
        runner.val()
    assert runner.model.predicting == 'teacher'


# ---- files and pictures ---------------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*.png')}


def test_every_role_has_its_own_files_and_pictures(data, tmp_path):
    """Those of the student are the stock ones; before, the roles wrote over each other."""

    def settings(cfg, folder):
        cfg.val_evaluator = [
            dict(type='IoUMetric', output_dir=str(folder / 'maps')),
            dict(type='DumpResults', out_file_path=str(folder / 'dumped/all.pkl')),
        ]
        cfg.default_hooks.visualization.update(draw=True, interval=2)
        return cfg

    ours = runner_of(settings(role_config(data, role_val=True), tmp_path / 'ours'), tmp_path / 'ours')
    ours.val()
    stock = runner_of(settings(stock_config(data), tmp_path / 'stock'), tmp_path / 'stock')
    stock.model.load_state_dict(ours.model.roles['student'].state_dict())
    stock.val()
    mine, theirs = files_of(tmp_path / 'ours/maps'), files_of(tmp_path / 'stock/maps')
    assert len(theirs) == 3
    assert {key: value for key, value in mine.items() if key.startswith('student')} == {
        f'student/{key}': value for key, value in theirs.items()
    }
    assert {key.replace('teacher', 'student') for key in mine} == {f'student/{key}' for key in theirs}
    assert mine['teacher/0.png'] != mine['student/0.png']
    dumps = [
        tmp_path / 'stock/dumped/all.pkl',
        *(tmp_path / f'ours/dumped/{role}/all.pkl' for role in ours.model.roles),
    ]
    maps = [torch.stack([item['pred_sem_seg']['data'] for item in load(path)]) for path in dumps]
    assert torch.equal(maps[0], maps[1]) and not torch.equal(maps[0], maps[2])
    (painted,), (alone,) = ([*(tmp_path / name).rglob('vis_image')] for name in ('ours', 'stock'))
    pictures, expected = files_of(painted), files_of(alone)
    assert len(expected) == 1
    for name, value in expected.items():
        assert pictures.pop(f'student_{name}') == value
        assert pictures.pop(f'teacher_{name}') != value
    assert not pictures


def test_metrics_that_are_no_configs_must_not_write_over_each_other(data, tmp_path):
    evaluator = Evaluator(DumpResults(out_file_path=str(tmp_path / 'all.pkl')))
    with pytest.raises(ConfigError, match=r'val_evaluator: DumpResults.out_file_path: several roles would write'):
        runner_of(role_config(data, role_val=True), tmp_path, val_evaluator=evaluator).val()


def test_losses_of_validation_are_reported_by_role(data, tmp_path):
    network = dict(segmentor(4), type='mmengine.GivesLosses')
    stock = runner_of(stock_config(data), tmp_path / 'stock', model=ConfigDict(network))
    cfg = role_config(data, role_val=True)
    cfg.model.roles.student = network
    ours = runner_of(cfg, tmp_path / 'ours')
    stock.model.load_state_dict(ours.model.roles['student'].state_dict())
    expected = stock.val()
    assert expected['val_loss'] == expected['decode.loss_ce'] > 0
    scores = ours.val()
    assert {key: value for key, value in scores.items() if key.startswith('student')} == {
        f'student/{key}': value for key, value in expected.items()
    }
    assert 'teacher/val_loss' not in scores
    for model in (stock.model, ours.model.roles['student']):
        model.decode_head.conv_seg.bias.data[0] += 5
    expected = stock.val()
    assert ours.val()['student/val_loss'] == expected['val_loss'] != scores['student/val_loss']  # nothing is left over


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
