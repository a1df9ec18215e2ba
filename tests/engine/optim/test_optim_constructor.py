"""``RoleOptimWrapperConstructor``: built as stock builds it, each parameter once, bad configs refused."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, build_optim_wrapper
from torch import nn

from mmadm.engine.optim import AmpRoleOptimWrapperDict, RoleOptimWrapperConstructor, RoleOptimWrapperDict
from mmadm.utils.errors import ConfigError

SGD = {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.01}
ADAMW = {'type': 'AdamW', 'lr': 0.001, 'weight_decay': 0.05}


def config(**kwargs) -> dict:
    return {'constructor': 'mmadm.RoleOptimWrapperConstructor', 'student': {'optimizer': SGD},
            'teacher': {'optimizer': ADAMW}, **kwargs}  # fmt: skip


def settings(member: OptimWrapper, model: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter, by name."""
    names = {param: name for name, param in model.named_parameters()}
    groups = member.optimizer.param_groups
    return {names[param]: (group['lr'], group['weight_decay']) for group in groups for param in group['params']}


def test_each_role_gets_its_own_optimiser_and_the_student_its_connector(pair):
    wrapper = build_optim_wrapper(pair, config())
    assert type(wrapper) is RoleOptimWrapperDict
    assert [type(member.optimizer) for member in wrapper.values()] == [torch.optim.SGD, torch.optim.AdamW]
    assert settings(wrapper['student'], pair) == {
        'roles.student.weight': (0.1, 0.01), 'connectors.adm.tap.weight': (0.1, 0.01)}  # fmt: skip
    assert settings(wrapper['teacher'], pair) == {'roles.teacher.weight': (0.001, 0.05)}


def test_paramwise_settings_mean_what_they_mean_in_stock(pair):
    pair.roles['student'] = nn.ModuleDict({
        'backbone': nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), 'head': nn.Linear(2, 1),
    })  # fmt: skip
    paramwise = {'custom_keys': {'head': {'lr_mult': 10.0}, 'connectors': {'lr_mult': 2.0, 'decay_mult': 0.0}},
                 'norm_decay_mult': 0.0, 'bias_lr_mult': 3.0}  # fmt: skip
    wrapper = build_optim_wrapper(pair, config(student={'optimizer': SGD, 'paramwise_cfg': paramwise}))
    found = settings(wrapper['student'], pair)
    assert found == {
        'roles.student.backbone.0.weight': (0.1, 0.01), 'roles.student.backbone.0.bias': (pytest.approx(0.3), 0.01),
        'roles.student.backbone.1.weight': (0.1, 0.0), 'roles.student.backbone.1.bias': (0.1, 0.0),
        'roles.student.head.weight': (1.0, 0.01), 'roles.student.head.bias': (1.0, 0.01),
        'connectors.adm.tap.weight': (0.2, 0.0),
    }  # fmt: skip
    assert settings(wrapper['teacher'], pair) == {'roles.teacher.weight': (0.001, 0.05)}
    stock = DefaultOptimWrapperConstructor({'optimizer': SGD}, paramwise)(pair.roles['student'])
    assert settings(stock, pair).items() < found.items()


def test_frozen_stages_of_a_trainable_role_need_no_owner(pair):
    pair.roles['student'].weight.requires_grad = False
    wrapper = build_optim_wrapper(pair, config(student={'optimizer': SGD, 'paramwise_cfg': {'norm_decay_mult': 0.0}}))
    assert set(settings(wrapper['student'], pair)) == {'connectors.adm.tap.weight'}


def test_shared_settings_reach_all_roles(pair):
    wrapper = build_optim_wrapper(pair, config(type='OptimWrapper', accumulative_counts=3))
    assert [member._accumulative_counts for member in wrapper.values()] == [3, 3]
    wrapper = build_optim_wrapper(pair, config(type='AmpOptimWrapper', dtype='float16', loss_scale=256.0))
    assert type(wrapper) is AmpRoleOptimWrapperDict
    assert wrapper.dtype is torch.float16
    assert {id(member.loss_scaler) for member in wrapper.values()} == {id(wrapper.loss_scaler)}
    assert wrapper.loss_scaler.get_scale() == 256.0


@pytest.mark.parametrize('kind', [dict, ConfigDict])
def test_config_is_left_unchanged_and_can_be_used_twice(pair, kind):
    cfg = config(teacher={'optimizer': ADAMW, 'clip_grad': {'type': 'norm', 'max_norm': 5}})
    cfg = kind({key: value for key, value in cfg.items() if key != 'constructor'})
    before = copy.deepcopy(cfg)
    constructor = RoleOptimWrapperConstructor(cfg)
    for _ in range(2):
        member = constructor(pair)['teacher']
        assert member.clip_grad_kwargs == {'max_norm': 5}
        assert member.grad_name == 'teacher.grad_norm'
    assert cfg == before


def test_a_wrapped_model_is_unwrapped(pair):
    wrapper = build_optim_wrapper(nn.DataParallel(pair), config())
    assert set(settings(wrapper['student'], pair)) == {'roles.student.weight', 'connectors.adm.tap.weight'}


SINGLE = {'optimizer': SGD}


@pytest.mark.parametrize(('cfg', 'message'), [
    (config(paramwise_cfg={'norm_decay_mult': 0.0}), r'optim_wrapper.paramwise_cfg: .*norm_decay_mult.*<role>'),
    (config(techer=SINGLE), r"optim_wrapper.techer: no such role.*\['student', 'teacher'\].*did you mean 'teacher'"),
    (config(optimizer=SGD), r'optim_wrapper.optimizer: no such role.*_delete_=True'),
    (config(clip_grad=None), r'optim_wrapper.clip_grad: no such role.*into each role'),
    (config(type='ApexOptimWrapper'), r"optim_wrapper.type: found 'ApexOptimWrapper'.*AmpOptimWrapper"),
    (config(dtype='bfloat16'), r"optim_wrapper.dtype works only with optim_wrapper.type='AmpOptimWrapper'"),
    (config(type='OptimWrapper', loss_scale='dynamic'), r'optim_wrapper.loss_scale works only with'),
    (config(teacher=SGD), r"optim_wrapper.teacher: found \{'type': 'SGD'.*need a dict such as"),
    (config(teacher=None), r'optim_wrapper.teacher: found None'),
    (config(teacher={'optimizer': {'lr': 0.1}}), r'optim_wrapper.teacher: found .*type='),
    (config(teacher={**SINGLE, 'type': 'OptimWrapper'}), r'optim_wrapper.teacher.type: .*put it beside them'),
    (config(teacher={**SINGLE, 'accumulative_counts': 2}), r'optim_wrapper.teacher.accumulative_counts: is the same'),
    (config(teacher={**SINGLE, 'clip': {}}), r"optim_wrapper.teacher.clip: unknown; did you mean 'clip_grad'"),
])  # fmt: skip
def test_misplaced_settings_are_refused(pair, cfg, message):
    with pytest.raises(ConfigError, match=message):
        build_optim_wrapper(pair, cfg)


def test_missing_and_frozen_roles_are_refused(pair):
    cfg = config()
    del cfg['teacher']
    with pytest.raises(ConfigError, match=r"optim_wrapper.teacher: missing.*\['student', 'teacher'\].*\['student'\]"):
        build_optim_wrapper(pair, cfg)
    pair.roles['teacher'].requires_grad_(False)
    pair.trainable, pair.frozen = ('student',), ('teacher',)
    assert list(build_optim_wrapper(pair, cfg).keys()) == ['student']
    with pytest.raises(ConfigError, match=r"optim_wrapper.teacher: role 'teacher' is frozen.*model.frozen"):
        build_optim_wrapper(pair, config())


def test_a_stock_model_is_refused():
    with pytest.raises(ConfigError, match=r'optim_wrapper.constructor: .*mmadm.Distillation, found Linear'):
        build_optim_wrapper(nn.Linear(1, 1), config())


def test_parameters_without_owner_are_named(pair):
    pair.fusion = nn.ModuleList(nn.Linear(1, 1) for _ in range(7))
    with pytest.raises(ConfigError, match=r'no role owns fusion.0.weight, fusion.0.bias, .*\(14 parameters in all\)'):
        build_optim_wrapper(pair, config())


def test_parameters_with_two_owners_are_named(pair):
    pair.roles['teacher'].weight = pair.roles['student'].weight
    with pytest.raises(ConfigError, match=r'roles.student.weight \(student, teacher\)'):
        build_optim_wrapper(pair, config())
