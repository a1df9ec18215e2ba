"""``RoleOptimWrapperConstructor``: built as stock builds it, each parameter once, bad configs refused."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import AmpOptimWrapper, DefaultOptimWrapperConstructor, OptimWrapper, build_optim_wrapper
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
    # a key that is in the name of the connector, and one that is not in that of the role
    keys = {'head': {'lr_mult': 10.0}, 'tap': {'lr_mult': 2.0}, 'student': {'lr_mult': 3.0}}
    paramwise = {'custom_keys': keys, 'norm_decay_mult': 0.0, 'bias_lr_mult': 3.0}
    wrapper = build_optim_wrapper(pair, config(student={'optimizer': SGD, 'paramwise_cfg': paramwise}))
    found = settings(wrapper['student'], pair)
    assert found == {
        'roles.student.backbone.0.weight': (0.1, 0.01), 'roles.student.backbone.0.bias': (pytest.approx(0.3), 0.01),
        'roles.student.backbone.1.weight': (0.1, 0.0), 'roles.student.backbone.1.bias': (0.1, 0.0),
        'roles.student.head.weight': (1.0, 0.01), 'roles.student.head.bias': (1.0, 0.01),
        'connectors.adm.tap.weight': (0.1, 0.01),
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


def test_a_stock_config_makes_one_optimiser_for_each_role_and_the_rest(pair):
    pair.fusion = nn.Linear(1, 1)

    class WithFusion(type(pair)):
        """The pair, and a part of a method that has an optimiser of its own."""

        owners = ('student', 'teacher', 'fusion')

        def owned_by(self, role):
            if role != 'fusion':
                return super().owned_by(role)
            return nn.ModuleDict({'connectors': nn.ModuleDict({'norm': self.fusion})})

    pair.__class__ = WithFusion
    stock = {'type': 'OptimWrapper', 'optimizer': SGD, 'clip_grad': {'max_norm': 5}, 'accumulative_counts': 2,
             'paramwise_cfg': {'custom_keys': {'norm': {'lr_mult': 0.0}}, 'bias_lr_mult': 2.0}}  # fmt: skip
    constructor = {'constructor': 'mmadm.RoleOptimWrapperConstructor'}
    wrapper = build_optim_wrapper(pair, {**stock, **constructor})
    assert list(wrapper.keys()) == ['student', 'teacher', 'fusion']
    assert [member.clip_grad_kwargs for member in wrapper.values()] == [{'max_norm': 5}] * 3
    assert [member._accumulative_counts for member in wrapper.values()] == [2] * 3
    assert settings(wrapper['fusion'], pair) == {'fusion.weight': (0.1, 0.01), 'fusion.bias': (0.2, 0.01)}
    own = {'fusion': {'paramwise_cfg': stock['paramwise_cfg']}}
    wrapper = build_optim_wrapper(pair, {**stock, **constructor, **own})
    assert settings(wrapper['fusion'], pair) == {'fusion.weight': (0.0, 0.01), 'fusion.bias': (0.0, 0.01)}


def test_the_entry_of_a_role_completes_or_replaces_the_stock_config(pair):
    cfg = {'optimizer': SGD, 'clip_grad': {'max_norm': 5}, 'constructor': 'mmadm.RoleOptimWrapperConstructor'}
    wrapper = build_optim_wrapper(pair, {**cfg, 'teacher': {'optimizer': {'lr': 0.02}, 'clip_grad': None}})
    assert [member.clip_grad_kwargs for member in wrapper.values()] == [{'max_norm': 5}, None]
    assert [member.optimizer.defaults['lr'] for member in wrapper.values()] == [0.1, 0.02]
    assert [member.optimizer.defaults['momentum'] for member in wrapper.values()] == [0.9, 0.9]
    wrapper = build_optim_wrapper(pair, {**cfg, 'teacher': {'optimizer': ADAMW}})
    assert [type(member.optimizer) for member in wrapper.values()] == [torch.optim.SGD, torch.optim.AdamW]


def test_classes_in_place_of_names_work(pair):
    cfg = {'type': AmpOptimWrapper, 'dtype': 'bfloat16', 'optimizer': {'type': torch.optim.SGD, 'lr': 0.1},
           'constructor': RoleOptimWrapperConstructor,
           'student': {'constructor': DefaultOptimWrapperConstructor}}  # fmt: skip
    wrapper = build_optim_wrapper(pair, cfg)
    assert type(wrapper) is AmpRoleOptimWrapperDict
    assert settings(wrapper['student'], pair) == {
        'roles.student.weight': (0.1, 0), 'connectors.adm.tap.weight': (0.1, 0)}  # fmt: skip


SINGLE = {'optimizer': SGD}


@pytest.mark.parametrize(('cfg', 'message'), [
    (config(paramwise_cfg={'num_layers': 12}), r'paramwise_cfg.num_layers of role .*student.constructor'),
    (config(techer=SINGLE), r"optim_wrapper.techer: no such role.*\['student', 'teacher'\].*did you mean 'teacher'"),
    (config(optimiser=SGD), r"optim_wrapper.optimiser: no such role.*did you mean 'optimizer'"),
    (config(optimizer={'type': 'SDG'}, student={}), r'optim_wrapper.student: DefaultOptimWrapperCon.*SDG.* for Linear'),
    (config(student={**SINGLE, 'constructor': 'Layers'}), r'optim_wrapper.student: Layers cannot build .* for Linear'),
    (config(type='ApexOptimWrapper'), r"optim_wrapper.type: found 'ApexOptimWrapper'.*AmpOptimWrapper"),
    (config(dtype='bfloat16'), r"optim_wrapper.dtype works only with optim_wrapper.type='AmpOptimWrapper'"),
    (config(type='OptimWrapper', loss_scale='dynamic'), r'optim_wrapper.loss_scale works only with'),
    (config(teacher=SGD), r'optim_wrapper.teacher.type: .*put it beside them'),
    (config(teacher=None), r'optim_wrapper.teacher: found None'),
    (config(teacher={'optimizer': {'lr': 0.1}}), r"optim_wrapper.teacher: missing.*found \{'lr': 0.1\}"),
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
    with pytest.raises(ConfigError, match=r"optim_wrapper.teacher: missing.*found None.*\['student', 'teacher'\]"):
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
    with pytest.raises(ConfigError, match=r'no role owns fusion.0.weight, fusion.0.bias, .* and 9 more;'):
        build_optim_wrapper(pair, config())


def test_parameters_with_two_owners_are_named(pair):
    pair.roles['teacher'].weight = pair.roles['student'].weight
    with pytest.raises(ConfigError, match=r'roles.student.weight \(student, teacher\)'):
        build_optim_wrapper(pair, config())
