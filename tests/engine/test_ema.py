"""``RoleEMAHook``: the averages of stock, of the roles that are asked for, exact across a resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from small_segmentors import build, segmentor
from small_trainings import Break, role_config, runner_of, same, stock_config, weights_of, write_images

from mmadm.engine import RoleEMAHook
from mmadm.utils.checkpoint import read_checkpoint
from mmadm.utils.errors import CheckpointError, ConfigError

STUDENT = segmentor(4, dropout=0.5)


class Record(Hook):
    """Keeps a weight of the student after every iteration, and the scores."""

    def __init__(self):
        self.weights, self.scores = [], []

    def after_train_iter(self, runner, **_):
        self.weights.append(weight(runner.model.state_dict()).clone())

    def after_val_epoch(self, runner, metrics=None):
        self.scores.append({key.removeprefix('student/'): value for key, value in metrics.items()})


class Save(Hook):
    """Saves before anything was averaged."""

    def before_val(self, runner):
        runner.save_checkpoint(runner.work_dir, 'first.pth', save_optimizer=False, save_param_scheduler=False)


def weight(state):
    """The kernel of the last layer, whole model or role."""
    (found,) = (
        value for key, value in state.items() if key.endswith('decode_head.conv_seg.weight') and 'te' not in key
    )
    return found


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


def pair(data, iterations=4, ema=None, **model):
    """Config of a student and a teacher with averages."""
    cfg = role_config(data, iterations)
    cfg.model.update(model)
    cfg.custom_hooks = [dict(type='mmadm.RoleEMAHook', **(ema or {}))]
    return cfg


@pytest.mark.parametrize(
    'options',
    [
        dict(momentum=0.3),
        dict(momentum=0.3, update_buffers=True, begin_iter=2),
        dict(ema_type='StochasticWeightAverage'),
    ],
    ids=['plain', 'buffers', 'swa'],
)
def test_the_average_of_a_single_role_is_that_of_stock(data, tmp_path, options):
    weights, scores = {}, {}
    for name, kind, model in (
        ('stock', 'EMAHook', STUDENT),
        ('ours', 'mmadm.RoleEMAHook', dict(type='mmadm.Distillation', roles=dict(student=STUDENT))),
    ):
        cfg = stock_config(data, 4)
        cfg.model = model
        record = Record()
        runner_of(cfg, tmp_path / name, custom_hooks=[dict(type=kind, **options), record]).train()
        weights[name], scores[name] = read_checkpoint(tmp_path / name / 'iter_4.pth')['state_dict'], record.scores
    assert same(weights_of(tmp_path / 'ours/iter_4_student.pth'), dict(weights['stock']))
    assert scores['ours'] == scores['stock'] and len(scores['stock']) == 2


def test_files_have_the_average_and_training_goes_on_from_the_weights(data, tmp_path):
    record = Record()
    cfg = pair(data, 3, dict(momentum=0.25))
    runner = runner_of(cfg, tmp_path, custom_hooks=[*cfg.custom_hooks, record])
    runner.train()
    first, second, third = record.weights
    average = first + 0.25 * (second - first)
    average = average + 0.25 * (third - average)
    saved = read_checkpoint(tmp_path / 'iter_3.pth')
    torch.testing.assert_close(weight(weights_of(tmp_path / 'iter_3_student.pth')), average)
    assert torch.equal(weight(saved['state_dict']), weight(weights_of(tmp_path / 'iter_3_student.pth')))
    assert torch.equal(weight(saved['ema_state_dict']), third)
    assert torch.equal(weight(runner.model.state_dict()), third)
    # the teacher is not averaged, so it is neither copied nor swapped
    assert not [key for key in saved['ema_state_dict'] if 'teacher' in key]
    mine = runner.model.roles['teacher'].state_dict()
    assert all(torch.equal(saved['state_dict'][f'roles.teacher.{key}'], value) for key, value in mine.items())


def test_a_frozen_role_is_never_copied(data, tmp_path):
    torch.save(dict(meta={}, state_dict=build(segmentor(8), seed=5).state_dict()), tmp_path / 'teacher.pth')
    roles = dict(student=STUDENT, teacher=dict(cfg=segmentor(8), checkpoint=str(tmp_path / 'teacher.pth')))
    cfg = pair(data, 2, roles=roles, frozen=['teacher'])
    cfg.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05))
    cfg.param_scheduler = None
    runner = runner_of(cfg, tmp_path / 'run')
    runner.train()
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, RoleEMAHook))
    averaged = sum(p.numel() for p in hook.ema_model.parameters())
    assert averaged == sum(p.numel() for p in runner.model.roles['student'].parameters())
    assert same(runner.model.roles['teacher'].state_dict(), weights_of(tmp_path / 'teacher.pth'))


def test_a_resumed_run_has_the_averages_of_an_uninterrupted_one(data, tmp_path):
    cfg = pair(data, 5, dict(momentum=0.3, roles=['student', 'teacher']))
    runner_of(cfg, tmp_path / 'whole').train()
    with pytest.raises(InterruptedError):
        runner_of(cfg, tmp_path / 'broken', custom_hooks=[*cfg.custom_hooks, Break(3)]).train()
    newest = str(tmp_path / 'broken/iter_2.pth')
    runner_of(cfg, tmp_path / 'broken', resume=True, load_from=newest).train()
    whole, resumed = (read_checkpoint(tmp_path / name / 'iter_5.pth') for name in ('whole', 'broken'))
    assert same(whole['state_dict'], resumed['state_dict'])
    assert same(whole['ema_state_dict'], resumed['ema_state_dict'])
    assert not torch.equal(weight(whole['state_dict']), weight(whole['ema_state_dict']))
    cfg.custom_hooks[0].roles = ['student']
    with pytest.raises(CheckpointError, match=r"averages of \['student', 'teacher'\].*roles is \['student'\]"):
        runner_of(cfg, tmp_path / 'other', resume=True, load_from=newest).train()


@pytest.mark.parametrize('saved', [False, True])
def test_before_the_first_update_the_average_is_the_loaded_model(data, tmp_path, saved):
    cfg = pair(data, 2)
    runner_of(cfg, tmp_path / 'trained').train()
    record = Record()
    file = str(tmp_path / 'trained/iter_2.pth')
    runner = runner_of(
        cfg, tmp_path / 'val', load_from=file, custom_hooks=[*cfg.custom_hooks, record, *[Save()] * saved]
    )
    before = weight(read_checkpoint(file)['state_dict'])
    runner.val()
    assert torch.equal(weight(runner.model.state_dict()), before)
    assert not saved or torch.equal(weight(weights_of(tmp_path / 'val/first.pth')), before)
    stock = stock_config(data)
    stock.model = STUDENT
    expected = runner_of(stock, tmp_path / 'stock', load_from=file.replace('.pth', '_student.pth')).val()
    assert record.scores == [expected]


@pytest.mark.parametrize(
    ('hook', 'message'),
    [
        (dict(type='mmadm.RoleEMAHook', roles=['stundent']), "'stundent' is no role; did you mean 'student'"),
        (dict(type='mmadm.RoleEMAHook', roles=['teacher']), "'teacher' is frozen, so it is its own average"),
        (dict(type='mmadm.RoleEMAHook', roles='student'), r"must be a list: \['student'\]"),
        (dict(type='EMAHook', momentum=0.1), r"EMAHook.*dict\(type='mmadm.RoleEMAHook', \.\.\.\)"),
    ],
)
def test_what_cannot_be_averaged_is_refused(data, tmp_path, hook, message):
    cfg = role_config(data)
    cfg.model.frozen = ['teacher']
    cfg.optim_wrapper.pop('teacher')
    with pytest.raises(ConfigError, match=message):
        runner_of(cfg, tmp_path, custom_hooks=[hook]).train()
