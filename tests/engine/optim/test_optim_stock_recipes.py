"""A stock ``optim_wrapper`` moves each role as it moves that role's network alone: law 4, whatever the wrapper."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS, DefaultScope
from mmseg.registry import MODELS
from small_segmentors import build, segmentor
from small_trainings import runner_of, same, stock_config, write_images
from torch import nn

from mmadm.utils.errors import ConfigError

CONSTRUCTOR = 'mmadm.RoleOptimWrapperConstructor'
CLIPPED = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0)), norm_decay_mult=0.0),
    clip_grad=dict(max_norm=0.2, norm_type=2),
)
WITHOUT = {key: value for key, value in CLIPPED.items() if key != 'clip_grad'}
LOWERED = dict(type='AmpOptimWrapper', dtype='bfloat16')


@OPTIM_WRAPPERS.register_module()
class StockHalfOnCPU(OptimWrapper):
    """Stock mixed precision, which mmengine itself has for GPUs only."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


class Norms(Hook):
    """Keeps the gradient norms that were logged."""

    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, **_):
        logged = runner.message_hub.log_scalars
        self.values += [v.data[0][-1] for key, v in logged.items() if key.endswith('student.grad_norm')]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    """Weights after four iterations, of a stock student or of the student among two roles without a distiller."""
    known = {}

    def train(optim_wrapper, roles=None, hook=None):
        cfg = stock_config(data, 4, val_interval=100, save_interval=100)
        cfg.optim_wrapper = optim_wrapper
        cfg.default_hooks.guard = dict(type='mmadm.NonFiniteGuardHook')
        if roles:
            cfg.model = dict(type='mmadm.Distillation', roles=roles)
        runner = runner_of(cfg, tmp_path_factory.mktemp('run'), custom_hooks=[hook] if hook else [])
        runner.train()
        return runner.model.state_dict()

    def run(optim_wrapper, roles=None, hook=None):
        key = str((optim_wrapper, roles))
        if key not in known or hook:
            known[key] = train(deepcopy(optim_wrapper), roles, hook)
        return known[key]

    return run


ROLES = dict(student=segmentor(4, dropout=0.5), teacher=segmentor(8, dropout=0.5))


def student_of(weights):
    prefix = 'roles.student.'
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


@pytest.mark.parametrize(
    ('ours', 'stock'),
    [
        (WITHOUT, WITHOUT),
        ({**CLIPPED, 'constructor': CONSTRUCTOR}, CLIPPED),
        ({**CLIPPED, **LOWERED, 'constructor': CONSTRUCTOR}, {**CLIPPED, 'type': 'StockHalfOnCPU'}),
        (
            {
                'constructor': CONSTRUCTOR,
                'student': {key: value for key, value in CLIPPED.items() if key != 'type'},
                'teacher': dict(optimizer=dict(type='AdamW', lr=0.01)),
            },
            CLIPPED,
        ),
    ],
    ids=['plain', 'stock-config', 'mixed-precision', 'by-role'],
)
def test_a_second_role_leaves_the_student_what_it_is_alone(trained, ours, stock):
    norms = Norms()
    mine = student_of(trained(ours, ROLES, norms))
    assert same(mine, dict(trained(stock)))
    if stock is not WITHOUT:
        assert min(norms.values) > 0.2  # or nothing was clipped
        assert not same(mine, dict(trained(WITHOUT)))


def test_one_wrapper_that_clips_all_roles_together_is_refused(trained):
    with pytest.raises(ConfigError, match=r"clip_grad.*\['student', 'teacher'\].*constructor='mmadm.RoleOptimWrap"):
        trained(CLIPPED, ROLES)


@pytest.mark.parametrize('clip_grad', [dict(type='value', clip_value=0.01), dict(max_norm=0.5)], ids=['value', 'alone'])
def test_clipping_that_concerns_one_role_alone_is_stock(trained, clip_grad):
    wrapper = {**CLIPPED, 'clip_grad': clip_grad}
    roles = ROLES if 'type' in clip_grad else dict(student=ROLES['student'])
    assert same(student_of(trained(wrapper, roles)), dict(trained(wrapper)))


# ---- constructors of the toolboxes ----------------------------------------------------------------------------------


@MODELS.register_module()
class TinyConvNeXt(nn.Module):
    """The names of ConvNeXt's parameters, which is all that stage-wise decay looks at."""

    def __init__(self):
        super().__init__()
        self.downsample_layers = nn.ModuleList(nn.Conv2d(3 if i == 0 else 4, 4, 4 if i == 0 else 2) for i in range(4))
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)) for _ in range(4))

    def forward(self, x):
        outputs = []
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(down(x))
            outputs.append(x)
        return tuple(outputs)


BEIT = dict(
    type='BEiT', img_size=32, patch_size=8, embed_dims=16, num_layers=4, num_heads=2, mlp_ratio=2,
    out_indices=[0, 1, 2, 3], qv_bias=True, init_values=0.1,
)  # fmt: skip
LAYERS = dict(
    optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.05),
    constructor='LayerDecayOptimizerConstructor',
    paramwise_cfg=dict(num_layers=4, layer_decay_rate=0.5),
)
STAGES = dict(
    optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.05),
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(num_layers=6, decay_rate=0.9, decay_type='stage_wise'),
)


def network(backbone):
    cfg = segmentor(4)
    cfg['backbone'] = backbone
    channels = 16 if backbone['type'] == 'BEiT' else 4
    cfg['decode_head'].update(in_channels=channels, in_index=3)
    return cfg


def settings(optimizer, model):
    """Learning rate, decay and scale of every parameter that it moves, by name."""
    names = {param: name for name, param in model.named_parameters()}
    return {
        names[param]: (group['lr'], group['weight_decay'], group.get('lr_scale'))
        for group in optimizer.param_groups
        for param in group['params']
    }


@pytest.mark.parametrize(
    ('backbone', 'recipe'), [(BEIT, LAYERS), (dict(type='TinyConvNeXt'), STAGES)], ids=['layers', 'stages']
)
def test_the_constructor_of_a_role_means_what_it_means_in_its_stock_config(backbone, recipe):
    cfg = network(backbone)
    with DefaultScope.overwrite_default_scope('mmseg'):
        alone = build(cfg)
        stock = settings(build_optim_wrapper(alone, ConfigDict(recipe)).optimizer, alone)
        adm = dict(type='mmadm.ADM', at='backbone')  # with a connector, as the widths differ
        roles = dict(student=cfg, teacher=segmentor(8))
        model = build(dict(type='mmadm.Distillation', roles=roles, distillers=[adm]))
        common = dict(constructor=CONSTRUCTOR, optimizer=dict(type='SGD', lr=0.3, weight_decay=0.1))
        wrapper = build_optim_wrapper(model, ConfigDict(common, student=recipe))
    mine = settings(wrapper['student'].optimizer, model)
    connectors = {name: mine.pop(name) for name in list(mine) if name.startswith('connectors.')}
    assert {name.removeprefix('roles.student.'): value for name, value in mine.items()} == stock
    assert len({value[0] for value in stock.values()}) > 3
    assert connectors and set(connectors.values()) == {(0.01, 0.05, None)}
    assert {value[:2] for value in settings(wrapper['teacher'].optimizer, model).values()} == {(0.3, 0.1)}
    wrapper['student'].load_state_dict(wrapper['student'].state_dict())
