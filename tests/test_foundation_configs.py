"""The configs whose teacher is a foundation model: what they name, and a step of each at a small size."""

from __future__ import annotations

from pathlib import Path

import extras
import pytest
import small_detectors
import small_segmentors
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from small_roles import SEGMENTATION_SIZE, small
from stock_configs import assert_trains_as

from mmadm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from mmadm.utils.config import role_model_cfg

ROOT = Path(__file__).resolve().parents[1] / 'configs/foundation'
ALL = sorted(path.stem for path in ROOT.glob('*.py'))


def config(name):
    return Config.fromfile(ROOT / f'{name}.py', format_python_code=False)


@pytest.mark.parametrize('name', ALL)
def test_students_train_as_stock_and_a_file_belongs_to_its_teacher(name):
    cfg = config(name)
    assert_trains_as(cfg, cfg.model.roles.student.cfg)
    teacher, file = role_model_cfg(cfg.model.roles.teacher), Path(cfg.model.roles.teacher.checkpoint).name
    network = teacher['backbone']['model_name']
    assert (network, file) in {
        ('vit_small_patch14_dinov2', 'dinov2_vits14_pretrain.pth'),
        ('vit_small_patch16_dinov3', 'vit_small_patch16_dinov3.pth'),
    }
    assert f'_{network[-6:]}-s_' in name and cfg.model.frozen == ['teacher'] and len(ALL) == 4


@pytest.mark.parametrize('name', ALL)
def test_a_step_at_a_small_size(name):
    extras.use('timm')
    cfg = config(name)
    teacher = role_model_cfg(cfg.model.roles.teacher)
    teacher['backbone'].update(embed_dim=64, depth=2, num_heads=2)
    cfg.model.roles = dict(student=small(cfg.model.roles.student, 4), teacher=teacher)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        model.init_weights()
    wrapper = cfg.optim_wrapper.to_dict()
    wrapper = dict(type=wrapper.pop('constructor', 'DefaultOptimWrapperConstructor'), optim_wrapper_cfg=wrapper)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    data = (
        small_segmentors.batch(2, size=SEGMENTATION_SIZE, classes=19)
        if 'cityscapes' in name
        else small_detectors.batch(2)
    )
    log = model.train().train_step(data, OPTIM_WRAPPER_CONSTRUCTORS.build(wrapper)(model))
    assert log['student.loss_transfer'] > 0 and all(torch.isfinite(value).all() for value in log.values())
    moved = {key.split('.')[1] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {'student', 'transfer'}
