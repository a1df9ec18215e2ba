"""Every config that mmadm ships loads and builds; the Cityscapes ones also make a step at a small crop."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from small_segmentors import batch
from test_zoo import OWN

from mmadm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from mmadm.utils.config import role_model_cfg

ROOT = Path(__file__).resolve().parents[1] / 'configs'
# users' own; tested elsewhere
NOT_HERE = (OWN, '_base_', 'akd', 'baselines', 'ffsd', 'foundation', 'kdcl', 'sokd', 'switokd')
CONFIGS = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob('*/*.py') if p.parent.name not in NOT_HERE)
SMALL = (64, 128)


def load(name):
    return Config.fromfile(ROOT / name)


def build(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return revert_sync_batchnorm(MODELS.build(cfg.model))


def optimiser(cfg, model):
    wrapper = cfg.optim_wrapper.to_dict()
    constructor = wrapper.pop('constructor', 'DefaultOptimWrapperConstructor')
    return OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type=constructor, optim_wrapper_cfg=wrapper))(model)


@pytest.mark.parametrize('name', CONFIGS)
def test_config_builds_model_and_optimisers(name):
    cfg = load(name)
    if 'r101' in name:  # stepped below
        assert cfg.model.roles
        return
    for role in cfg.model.get('roles', {}).values():
        role.pop('checkpoint', None)  # made by an earlier training
    model = build(cfg)
    wrapper = optimiser(cfg, model)
    owned = [p for part in getattr(wrapper, 'optim_wrappers', {'': wrapper}).values() for g in part.param_groups
             for p in g['params']]  # fmt: skip
    assert {id(p) for p in owned} >= {id(p) for p in model.parameters() if p.requires_grad}
    for part in ('train', 'val', 'test'):
        assert cfg[f'{part}_dataloader'].dataset.type and cfg[f'{part}_cfg'].type
    assert cfg.default_hooks.checkpoint.type == 'mmadm.RoleCheckpointHook'


@pytest.mark.parametrize('name', [c for c in CONFIGS if 'cityscapes' in c])
def test_cityscapes_config_makes_a_step_at_a_small_crop(name):
    cfg = load(name)
    for role, role_cfg in cfg.model.roles.items():
        stock = role_model_cfg(role_cfg)
        stock['data_preprocessor']['size'] = SMALL
        cfg.model.roles[role] = stock
    model = build(cfg).train()
    wrapper = optimiser(cfg, model)
    before = {n: p.clone() for n, p in model.named_parameters()}
    log = model.train_step(batch(2, size=SMALL, classes=19), wrapper)
    assert all(torch.isfinite(v).all() for v in log.values())
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    # a bias that starts at 0 behind a normalisation may have no gradient; whole networks may not stand still
    assert len(still) < 0.02 * len(before), still[:5]
    expected = {'student.decode.loss_ce', 'student.aux.loss_ce'}
    if 'adm_' in name:
        expected |= {'teacher.decode.loss_ce', 'student.loss_mutual', 'teacher.loss_mutual'}
        expected |= {'student.loss_consensus', 'teacher.loss_divergence'}
        assert model.connectors.adm.backbone_layer4.weight.shape == (2048, 512, 1, 1)
    assert expected <= set(log)


def test_one_key_makes_the_cityscapes_run_offline():
    cfg = load('adm/adm_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py')
    cfg.model.frozen = ['teacher']
    model = build(cfg)
    assert not any(p.requires_grad for p in model.roles['teacher'].parameters())
    assert not model.roles['teacher'].training and model.trainable == ('student',)
