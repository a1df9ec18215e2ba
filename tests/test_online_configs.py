"""The configs of KDCL, SwitOKD, SOKD and FFSD for Cityscapes and COCO: a step of each at a small size."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_detectors
import small_segmentors
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from small_roles import SEGMENTATION_SIZE, small

from mmadm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS

ROOT = Path(__file__).resolve().parents[1] / 'configs'
FOLDERS = ('ffsd', 'kdcl', 'sokd', 'switokd')
ALL = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).glob('*.py'))
LOSSES = {
    'kdcl': {'student.loss_kdcl', 'teacher.loss_kdcl'},
    'switokd': {'student.loss_switokd', 'teacher.expert'},
    'sokd': {'bridge.loss_from_teacher', 'bridge.loss_from_student', 'student.loss_from_bridge'},
    'ffsd': {'first.loss_peers', 'second.loss_diversity', 'fusion.loss_students', 'leader.loss_fused'},
}


def built(cfg):
    """The config's model with small roles; what is like another role stays so."""
    widths = dict(student=4, first=4, second=4, leader=4, teacher=8)
    for name, role in cfg.model.roles.items():
        if 'like' not in role:
            cfg.model.roles[name] = small(role, widths[name])
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        model.init_weights()
    return model.train()


@pytest.mark.parametrize('name', ALL)
def test_a_step_trains_every_owner(name):
    cfg = Config.fromfile(ROOT / name, format_python_code=False)
    model = built(cfg)
    wrapper = cfg.optim_wrapper.to_dict()
    constructor = wrapper.pop('constructor')
    optimiser = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type=constructor, optim_wrapper_cfg=wrapper))(model)
    assert set(optimiser.keys()) == set(model.owners)
    data = (
        small_segmentors.batch(2, size=SEGMENTATION_SIZE, classes=19)
        if 'cityscapes' in name
        else small_detectors.batch(2)
    )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    log = model.train_step(data, optimiser)
    expected = LOSSES[name.partition('/')[0]]
    assert expected | ({'student.loss_consensus'} if '_adm_' in name else set()) <= set(log)
    assert all(torch.isfinite(value).all() for value in log.values())
    assert model.deploy == ('leader' if 'ffsd' in name else 'student')
    paused = {'teacher'} if log.get('teacher.expert') else set()
    moved = {key.split('.')[1] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {owner for owner in model.trainable if owner not in paused} <= moved
    assert cfg.get('find_unused_parameters', False) == bool(model.may_pause)
