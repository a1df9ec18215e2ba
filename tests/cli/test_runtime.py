"""A hand-written distillation gets role files, guards and scores by role without naming them."""

from __future__ import annotations

from copy import deepcopy

import pytest
from mmengine.config import Config
from small_segmentors import segmentor
from small_trainings import losses_of, stock_config, write_images

from mmadm.cli import train
from mmadm.cli.runtime import add_role_settings, role_settings
from mmadm.utils.export import role_config

ADDED = dict(
    val_cfg=dict(type='mmadm.RoleValLoop', role_val=True),
    default_hooks=dict(
        checkpoint=dict(type='mmadm.RoleCheckpointHook', save_best='student/mIoU'),
        guard=dict(type='mmadm.NonFiniteGuardHook'),
    ),
)


def hand_written(data) -> Config:
    """A stock training config in which nothing but the model was changed."""
    cfg = stock_config(data, iterations=2)
    cfg.model = dict(
        type='mmadm.Distillation',
        roles=dict(student=segmentor(4), teacher=segmentor(8)),
        distillers=[dict(type='mmadm.MutualLearning', roles=['student', 'teacher'])],
    )
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=2, save_best='mIoU')
    return cfg


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('data') / 'images')


def test_a_stock_runtime_gets_what_it_lacks(data, tmp_path, capsys):
    cfg = hand_written(data)
    assert role_settings(cfg) == ADDED
    cfg.dump(tmp_path / 'hand.py')
    train.main([str(tmp_path / 'hand.py'), '--work-dir', str(tmp_path / 'run')])
    told = capsys.readouterr().out
    assert 'mmadm adds what this distillation lacks:' in told and 'RoleCheckpointHook' in told
    files = {path.name for path in (tmp_path / 'run').glob('*.pth')}
    assert {'iter_2.pth', 'iter_2_student.pth'} < files
    assert any(name.startswith('best_student_mIoU_iter_2') and name.endswith('_student.pth') for name in files)
    assert {'student.loss', 'teacher.loss'} <= set(losses_of(tmp_path / 'run')[2])


def test_what_is_there_is_not_added_again(data):
    cfg = hand_written(data)
    cfg.merge_from_dict(deepcopy(ADDED))
    assert role_settings(cfg) == {}


def test_a_frozen_role_brings_the_guard_of_teachers_and_one_learner_is_scored_alone(data):
    cfg = hand_written(data)
    cfg.model.frozen = ['teacher']
    found = role_settings(cfg)
    assert found['val_cfg'] == dict(type='mmadm.RoleValLoop')
    assert found['default_hooks']['teacher_guard'] == dict(type='mmadm.TeacherGuardHook')


def test_what_a_user_wrote_of_another_kind_stays(data):
    cfg = hand_written(data)
    cfg.val_cfg = dict(type='MyValLoop')
    cfg.default_hooks = dict(checkpoint=dict(type='MyCheckpointHook'))
    cfg.custom_hooks = [dict(type='mmadm.NonFiniteGuardHook')]
    assert role_settings(cfg) == {}
    cfg.val_cfg = cfg.default_hooks.checkpoint = None
    assert role_settings(cfg) == {}


def test_without_a_checkpoint_hook_the_interval_is_the_one_of_mmengine(data):
    cfg = hand_written(data)
    cfg.default_hooks = {}
    assert role_settings(cfg)['default_hooks']['checkpoint'] == dict(type='mmadm.RoleCheckpointHook', interval=1)


def test_none_behind_a_name_means_no_hook(data, tmp_path):
    """mmengine takes None for its own hooks alone, and stops at any other with an assertion without a word."""
    cfg = hand_written(data)
    cfg.default_hooks.update(guard=None, visualization=None, timer=None)
    cfg.dump(tmp_path / 'hand.py')
    train.main([str(tmp_path / 'hand.py'), '--work-dir', str(tmp_path / 'run')])
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert 'NonFiniteGuardHook is not in this config' not in log.read_text()  # it was left out on purpose
    run = Config.fromfile(tmp_path / 'run/hand.py')
    assert set(run.default_hooks) == {'logger', 'checkpoint', 'timer'} and run.default_hooks.timer is None
    assert set(role_config(run, 'student').default_hooks) == {'logger', 'checkpoint', 'timer'}
    cfg.work_dir = str(tmp_path / 'run')
    assert set(role_config(cfg, 'student').default_hooks) == {'logger', 'checkpoint', 'timer'}


def test_no_default_hooks_at_all_are_as_none_named(data):
    cfg = hand_written(data)
    cfg.default_hooks = None
    add_role_settings(cfg)
    assert cfg.default_hooks.guard.type == 'mmadm.NonFiniteGuardHook'
    assert cfg.default_hooks.checkpoint == dict(type='mmadm.RoleCheckpointHook', interval=1)


def test_a_stock_model_is_left_alone(data, tmp_path, capsys):
    stock_config(data, iterations=2).dump(tmp_path / 'stock.py')
    train.main([str(tmp_path / 'stock.py'), '--work-dir', str(tmp_path / 'run')])
    assert 'mmadm adds' not in capsys.readouterr().out


def test_hooks_for_one_network_run_on_each_role_and_what_watches_a_metric_names_the_role(data):
    cfg = hand_written(data)
    switch = dict(type='YOLOXModeSwitchHook', num_last_epochs=15)
    cfg.custom_hooks = [
        dict(type='mmdet.EMAHook', momentum=0.1),
        dict(priority=48, **switch),
        dict(type='EarlyStoppingHook', monitor='mIoU'),
        dict(type='ProfilerHook'),
    ]
    cfg.param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='mIoU'), dict(type='LinearLR')]
    found = role_settings(cfg)
    assert found['custom_hooks'] == [
        dict(type='mmadm.RoleEMAHook', momentum=0.1, roles=['student', 'teacher']),
        dict(type='mmadm.RoleHook', hook=switch, priority=48),
        dict(type='EarlyStoppingHook', monitor='student/mIoU'),
        dict(type='ProfilerHook'),
    ]
    assert [schedule.get('monitor') for schedule in found['param_scheduler']] == ['student/mIoU', None]
