"""Hooks and names that take the model for one network are refused before the first iteration, or run on the roles."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from small_detectors import batch
from small_segmentors import segmentor
from small_trainings import load_tool, losses_of, role_config, runner_of, write_images
from torch.utils.data import Dataset

from mmadm.utils.errors import ConfigError

SWITCH = dict(type='mmdet.YOLOXModeSwitchHook', num_last_epochs=1, skip_type_keys=('Mosaic',))
YOLOX = dict(
    type='YOLOX',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(type='CSPDarknet', deepen_factor=0.33, widen_factor=0.125),
    neck=dict(type='YOLOXPAFPN', in_channels=[32, 64, 128], out_channels=16, num_csp_blocks=1),
    bbox_head=dict(type='YOLOXHead', num_classes=3, in_channels=16, feat_channels=16),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
)


@HOOKS.register_module()
class ReachesIn(Hook):
    """A user's own hook."""

    def before_train(self, runner):
        self.found = runner.model


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


# ---- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(custom_hooks=[SWITCH]), r"YOLOXModeSwitchHook .*hook=dict\(type='YOLOXModeSwitchHook', \.\.\.\)\)"),
        (dict(custom_hooks=[dict(type='mmdet.SetEpochInfoHook')]), 'SetEpochInfoHook reaches into a single network'),
        (
            dict(custom_hooks=[dict(type='mmdet.NumClassCheckHook')]),
            r"NumClassCheckHook .*type='mmadm\.RoleHook', hook=",
        ),
        (dict(custom_hooks=[dict(type='mmdet.MeanTeacherHook')]), 'MeanTeacherHook .*remove it'),
        (dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='mIoU')]), "monitor='mIoU'.*write 'student/mIoU'"),
        (dict(checkpoint=dict(save_best='mIoU')), r"checkpoint.save_best='mIoU'.*\['student'\]; write 'student/mIoU'"),
        (dict(checkpoint=dict(save_best=['student/mIoU', 'teacher/aAcc'])), "'teacher/aAcc'.*write 'student/aAcc'"),
        (dict(val_cfg=dict(type='ValLoop'), checkpoint=dict(save_best='student/mIoU')), "ValLoop .*write 'mIoU', or"),
        (
            dict(param_scheduler=[dict(type='ReduceOnPlateauLR', monitor='mIoU', rule='greater')]),
            "param_scheduler: ReduceOnPlateauLR.monitor='mIoU'",
        ),
        (dict(val_cfg=dict(type='mmdet.TeacherStudentValLoop')), "val_cfg.type: .*'mmadm.RoleValLoop', role_val=True"),
        (
            dict(custom_hooks=[dict(type='mmadm.RoleHook', hook=dict(type='EMAHook'))]),
            'hook: for averages use mmadm.RoleEMAHook',
        ),
        (
            dict(custom_hooks=[dict(type='mmadm.RoleHook', roles=['tutor'], hook=dict(type='ReachesIn'))]),
            "RoleHook.roles: no role 'tutor'; did you mean 'student'",
        ),
    ],
)
def test_it_is_refused_before_the_first_iteration(data, tmp_path, settings, message):
    cfg = role_config(data)
    cfg.default_hooks.checkpoint.update(settings.pop('checkpoint', {}))
    with pytest.raises(ConfigError, match=message):
        runner_of(cfg, tmp_path, **settings).train()
    assert not list(tmp_path.glob('*/vis_data/scalars.json')) or losses_of(tmp_path) == {}


@pytest.mark.parametrize('classes', [5, 3])
def test_a_check_of_classes_runs_on_the_roles(data, tmp_path, classes):
    cfg = role_config(data, iterations=1)
    cfg.model.roles.teacher.cfg.decode_head.num_classes = classes
    cfg.model.distillers = []
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
    cfg.train_dataloader.sampler.type = 'DefaultSampler'
    hook = dict(type='mmadm.RoleHook', hook=dict(type='mmdet.NumClassCheckHook'))
    runner = runner_of(cfg, tmp_path, custom_hooks=[hook])
    if classes == 5:
        runner.train()
    else:
        runner.hooks[:] = [found for found in runner.hooks if type(found).__name__ != 'NonFiniteGuardHook']
        with pytest.raises(
            ConfigError, match=r'roles\.teacher: NumClassCheckHook: The `num_classes` \(3\) in EncoderDecoder'
        ):
            runner.train()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(teacher=None),
            r"param_scheduler: has entries for \['student'\], but none for 'teacher'.*teacher=\[\] for a",
        ),
        (dict(tutor=[]), r"param_scheduler\.tutor: nothing of this name learns; did you mean 'student'"),
    ],
)
def test_learning_rates_by_role_need_each_role(data, tmp_path, capsys, changes, message):
    cfg = role_config(data)
    cfg.param_scheduler = {k: v for k, v in {**cfg.param_scheduler, **changes}.items() if v is not None}
    cfg.dump(tmp_path / 'cfg.py')
    with pytest.raises(SystemExit):
        load_tool('train').main([str(tmp_path / 'cfg.py'), '--work-dir', str(tmp_path / 'work')])
    assert re.search(message, capsys.readouterr().err)
    if 'tutor' in changes:  # nor does a plain Runner pass over it in silence
        runner = runner_of(cfg, tmp_path / 'plain')
        runner.cfg.param_scheduler = cfg.param_scheduler
        with pytest.raises(ConfigError, match=message):
            runner.train()


def test_learning_rates_by_role_need_an_optimiser_for_each(data, tmp_path, capsys):
    cfg = role_config(data)
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    cfg.dump(tmp_path / 'cfg.py')
    with pytest.raises(SystemExit):
        load_tool('train').main([str(tmp_path / 'cfg.py'), '--work-dir', str(tmp_path / 'work')])
    assert 'param_scheduler: is a dict by role, but optim_wrapper makes one optimiser' in capsys.readouterr().err


@pytest.mark.parametrize('guarded', [True, False])
def test_a_config_without_the_guard_is_told_of_it_once(data, tmp_path, caplog, guarded):
    cfg = role_config(data, iterations=2)
    if not guarded:
        cfg.default_hooks.pop('guard')
    runner = runner_of(cfg, tmp_path, log_level='WARNING')
    MMLogger.get_current_instance().addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        runner.train()
    found = [
        text for text in map(logging.LogRecord.getMessage, caplog.records) if 'NonFiniteGuardHook is not in' in text
    ]
    assert len(found) == (not guarded)
    assert (
        guarded or '`mmadm train`, which adds what is missing, or add default_hooks=dict(checkpoint=dict(' in found[0]
    )


def test_compiling_the_training_step_is_refused(data, tmp_path):
    runner = runner_of(role_config(data), tmp_path)
    runner.cfg.compile = dict(backend='eager')
    with pytest.raises(ConfigError, match=r'compile: .*write model=dict\(compile=True\)'):
        runner.train()


def test_weights_by_epoch_need_epochs(data, tmp_path):
    cfg = role_config(data)
    cfg.model.distillers[1].schedule = dict(stop=2, by_epoch=True)
    with pytest.raises(ConfigError, match=r"schedule.by_epoch=True of 'adm'.*max_epochs"):
        runner_of(cfg, tmp_path).train()


def test_a_weight_by_epoch_changes_with_the_epoch(data, tmp_path):
    cfg = role_config(data, iterations=3, infinite=False, val_interval=9)
    cfg.model.distillers = [
        dict(type='mmadm.ADM', at='backbone.layer4'),
        dict(type='mmadm.ADM', at='backbone.layer4', schedule=dict(warmup='linear', length=2, stop=2, by_epoch=True)),
    ]
    cfg.model.roles.teacher = segmentor(4)  # no connectors, which would differ
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=9)
    cfg.train_dataloader.batch_size = 4  # two iterations in each epoch
    cfg.default_hooks.runtime = dict(type='RuntimeInfoHook')
    runner_of(cfg, tmp_path).train()
    values = [
        [v for k, v in log.items() if k.startswith('student.loss_consensus')] for log in losses_of(tmp_path).values()
    ]
    assert [scheduled / full for full, scheduled in values[:4]] == pytest.approx([0, 0, 0.5, 0.5])
    assert values[4][1] == values[5][1] == values[3][1]  # mmengine goes on to log what is not computed any more


@pytest.mark.parametrize(
    ('hook', 'warned'),
    [
        (dict(type='ReachesIn'), True),
        (dict(type='mmadm.RoleHook', hook=dict(type='ReachesIn')), False),
        (dict(type='SyncBuffersHook'), False),
    ],
    ids=['own', 'on-roles', 'stock'],
)
def test_a_hook_that_may_mean_one_network_is_told_of(data, tmp_path, caplog, hook, warned):
    runner = runner_of(role_config(data, iterations=1), tmp_path, custom_hooks=[hook], log_level='WARNING')
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        runner.train()
    assert ("hook=dict(type='ReachesIn'" in caplog.text) is warned


def test_early_stopping_stops(data, tmp_path):
    hook = dict(type='EarlyStoppingHook', monitor='student/mIoU', min_delta=1000, patience=1)
    runner_of(role_config(data, iterations=9), tmp_path, custom_hooks=[hook]).train()
    assert list(losses_of(tmp_path)) == [1, 2, 3, 4]  # the second validation is no better


# ---- on the roles ---------------------------------------------------------------------------------------------------


class Images(Dataset):
    """Four images with boxes; says which transforms were switched off."""

    def __init__(self):
        self.metainfo = dict(classes=('a', 'b', 'c'))
        self.items = batch(4)
        self.skipped = []

    def update_skip_type_keys(self, keys):
        self.skipped.append(keys)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {key: values[index] for key, values in self.items.items()}


def trained(folder: Path, model: dict, hook: dict) -> Runner:
    """Three epochs of two iterations."""
    loader = dict(
        batch_size=2, dataset=Images(), sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=pseudo_collate
    )
    runner = Runner(
        model=model, work_dir=str(folder), experiment_name=folder.name, train_dataloader=loader, default_scope='mmdet',
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3), custom_hooks=[hook], log_level='ERROR',
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.001)), randomness=dict(seed=1),
        default_hooks=dict(guard=dict(type='mmadm.NonFiniteGuardHook'), checkpoint=None, logger=None),
    )  # fmt: skip
    runner.train()
    return runner


def test_a_role_is_switched_as_the_stock_detector_is(tmp_path):
    stock = trained(tmp_path / 'stock', YOLOX, SWITCH)
    roles = dict(student=YOLOX, other=YOLOX)
    model = dict(type='mmadm.Distillation', roles=roles)
    ours = trained(tmp_path / 'ours', model, dict(type='mmadm.RoleHook', hook=SWITCH))
    assert stock.model.bbox_head.use_l1
    assert all(role.bbox_head.use_l1 for role in ours.model.roles.values())
    assert ours.train_dataloader.dataset.skipped == [('Mosaic',), ('Mosaic',)]
    mine = ours.model.roles['student'].state_dict()
    assert all(torch.equal(mine[key], value) for key, value in stock.model.state_dict().items())
    one = trained(tmp_path / 'one', model, dict(type='mmadm.RoleHook', roles=['other'], hook=SWITCH))
    assert [role.bbox_head.use_l1 for role in one.model.roles.values()] == [False, True]
    assert not torch.equal(
        one.model.roles['student'].bbox_head.multi_level_conv_reg[0].weight,
        stock.model.bbox_head.multi_level_conv_reg[0].weight,
    )


def test_what_trains_tokens_has_no_roles_to_check(data, tmp_path):
    cfg = role_config(data, iterations=1, val_interval=9)
    cfg.model = dict(type='mmadm.TokenTraining', roles=dict(teacher=segmentor(4)), at='backbone.layer4')
    cfg.optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.01), clip_grad=dict(max_norm=1.0))
    cfg.param_scheduler = None
    runner_of(cfg, tmp_path, val_cfg=None, val_dataloader=None, val_evaluator=None).train()
    assert 1 in losses_of(tmp_path)
