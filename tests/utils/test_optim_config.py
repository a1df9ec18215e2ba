"""What ``optim_wrapper`` says of one role."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from mmadm.utils.export import role_config
from mmadm.utils.optim_config import role_optimiser, type_name

SGD = dict(type='SGD', lr=0.1, momentum=0.9)
COMMON = dict(
    type='AmpOptimWrapper', dtype='bfloat16', constructor='mmadm.RoleOptimWrapperConstructor', optimizer=SGD,
    clip_grad=dict(max_norm=1), teacher=dict(optimizer=dict(lr=0.2), constructor='Layers'),
)  # fmt: skip


def test_the_exported_config_of_a_role_has_its_stock_optimiser():
    model = dict(type='mmadm.Distillation', roles=dict(student=dict(type='A'), teacher=dict(type='B')))
    cfg = Config(dict(model=model, optim_wrapper=COMMON))
    wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', clip_grad=dict(max_norm=1))
    assert role_config(cfg, 'student').optim_wrapper == dict(wrapper, optimizer=SGD)
    assert role_config(cfg, 'teacher').optim_wrapper == dict(wrapper, optimizer=dict(SGD, lr=0.2), constructor='Layers')


def test_another_type_of_optimiser_takes_nothing_from_the_common_one():
    adam = dict(type='Adam', lr=0.3)
    assert role_optimiser(dict(COMMON, student=dict(optimizer=adam)), 'student')['optimizer'] == adam


@pytest.mark.parametrize('kind', ['OptimWrapper', 'mmengine.OptimWrapper', 'mmengine.optim.OptimWrapper', OptimWrapper])
def test_a_type_has_one_name(kind):
    assert type_name(kind) == 'OptimWrapper'
