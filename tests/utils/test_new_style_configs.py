"""Configs in mmengine's newer style, with classes as ``type`` and ``read_base``, go through every command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from small_segmentors import segmentor
from small_trainings import ROOT, losses_of, role_config, same, weights_of, write_images

from mmadm.cli import export, test, train
from mmadm.utils.config import role_model_cfg, without_pretrained

CONFIG = """
from mmengine.config import read_base
from mmengine.hooks import EarlyStoppingHook, EMAHook
from mmengine.model import ExponentialMovingAverage, PretrainedInit
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop
from mmseg.models import EncoderDecoder, FCNHead, ResNet, SegDataPreProcessor
from torch.optim import SGD

from mmadm.algorithms import Distillation
from mmadm.distillers import ADM, MutualLearning
from mmadm.engine import (
    NonFiniteGuardHook, RoleCheckpointHook, RoleEMAHook, RoleHook, RoleOptimWrapperConstructor, RoleValLoop,
)

with read_base():
    from .base import *


def network(width):
    norm = dict(type='BN')
    head = dict(type=FCNHead, num_convs=1, concat_input=False, in_channels=8 * width, in_index=3, channels=8,
                num_classes=5, dropout_ratio=0.5, norm_cfg=norm, align_corners=False)
    backbone = dict(type=ResNet, depth=18, base_channels=width, stem_channels=width, strides=(1, 2, 2, 1),
                    dilations=(1, 1, 1, 2), norm_cfg=norm)
    preprocessor = dict(type=SegDataPreProcessor, mean=[120.0] * 3, std=[58.0] * 3, bgr_to_rgb=True, size=(32, 32),
                        seg_pad_val=255)
    return dict(type=EncoderDecoder, data_preprocessor=preprocessor, backbone=backbone, decode_head=head,
                train_cfg=dict(), test_cfg=dict(mode='whole'))


student = network(4)
model = dict(
    type=Distillation, roles=dict(student=student, teacher=dict(cfg=network(8))),
    distillers=[dict(type=MutualLearning, roles=['student', 'teacher']), dict(type=ADM, at='backbone.layer4')],
)
del network
optim_wrapper = dict(
    type=OptimWrapper, constructor=RoleOptimWrapperConstructor, optimizer=dict(type=SGD, lr=0.05, momentum=0.9),
    clip_grad=dict(max_norm=1.0), teacher=dict(optimizer=dict(lr=0.01)),
)
train_cfg = dict(type=IterBasedTrainLoop, max_iters=2, val_interval=2)
val_cfg = dict(type=RoleValLoop, role_val=True)
default_hooks.update(
    checkpoint=dict(type=RoleCheckpointHook, by_epoch=False, interval=2, save_best='student/mIoU'),
    guard=dict(type=NonFiniteGuardHook),
)
custom_hooks = [
    dict(type=RoleEMAHook, ema_type=ExponentialMovingAverage, momentum=0.3),
    dict(type=EarlyStoppingHook, monitor='student/mIoU'),
]
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """The config, trained in mixed precision."""
    folder = tmp_path_factory.mktemp('new')
    base = role_config(write_images(folder / 'data'))
    for key in ('model', 'optim_wrapper', 'val_cfg', 'train_cfg', 'param_scheduler'):
        base.pop(key)
    base.dump(folder / 'base.py')
    (folder / 'cfg.py').write_text(CONFIG)
    train.main([str(folder / 'cfg.py'), '--amp', '--work-dir', str(folder / 'work')])
    return folder


def test_it_trains_both_roles_in_mixed_precision(folder):
    assert list(losses_of(folder / 'work')) == [1, 2]
    saved = torch.load(folder / 'work/iter_2.pth', weights_only=False)
    assert set(saved['optimizer']) == {'student', 'teacher', 'loss_scaler'}
    assert [saved['optimizer'][role]['param_groups'][0]['lr'] for role in ('student', 'teacher')] == [0.05, 0.01]
    assert (folder / 'work/best_student_mIoU_iter_2_student.pth').is_file()


def test_a_role_is_exported_to_stock(folder, tmp_path):
    export.main(
        [str(folder / 'work/iter_2.pth'), '--role', 'student', '--out', str(tmp_path / 's.pth'),
         '--config-out', str(tmp_path / 's.py')]
    )  # fmt: skip
    text = (tmp_path / 's.py').read_text()
    assert 'mmadm' not in text and 'role' not in text
    cfg = Config.fromfile(tmp_path / 's.py')
    assert cfg.default_hooks.checkpoint.save_best == 'mIoU'
    assert [hook.get('monitor', hook.get('momentum')) for hook in cfg.custom_hooks] == [0.3, 'mIoU']
    assert cfg.optim_wrapper.clip_grad.max_norm == 1.0 and cfg.optim_wrapper.optimizer.lr == 0.05
    cfg.merge_from_dict(dict(work_dir=str(tmp_path), experiment_name='new', load_from=str(tmp_path / 's.pth')))
    cfg.custom_hooks = None
    runner = Runner.from_cfg(cfg)
    score = runner.test()
    assert same(runner.model.state_dict(), weights_of(tmp_path / 's.pth'))
    assert set(score) == {'aAcc', 'mIoU', 'mAcc'}
    test.main([str(folder / 'cfg.py'), str(folder / 'work/iter_2.pth'), '--work-dir', str(tmp_path / 'test')])


def test_a_checkpoint_replaces_what_is_pretrained(folder):
    cfg = Config.fromfile(folder / 'cfg.py')
    cfg.model.roles.student.backbone.init_cfg = dict(type='mmengine.model.PretrainedInit', checkpoint='torchvision://a')
    plain = role_model_cfg(cfg.model.roles.student)
    assert 'init_cfg' in plain['backbone'] and 'init_cfg' not in without_pretrained(plain)['backbone']
    old = dict(segmentor(4), init_cfg=dict(type='Pretrained', checkpoint='a'))
    assert 'init_cfg' not in without_pretrained(old)


@pytest.mark.parametrize('value', ['C:\\Users\\new data', 'data/here'])
def test_a_windows_path_in_the_data_variable(value):
    script = (
        'import mmadm; from mmengine.config import Config; '
        "print(Config.fromfile('configs/camvid/adm.py').train_dataloader.dataset.data_root)"
    )
    env = {**os.environ, 'MMADM_DATA': value, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == value.replace('\\', '/') + '/camvid'
