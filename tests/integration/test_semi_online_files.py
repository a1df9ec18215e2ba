"""SOKD's bridge and FFSD's leader as files: exact resume, and a stock model that costs and predicts the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config, ConfigDict
from small_segmentors import SIZE, batch, build, segmentor
from small_trainings import Break, role_config, runner_of, same, weights_of, write_images

from mmadm.cli import export

WIDTHS = {'bridge': 8, 'student': 4, 'leader': 4}


def sgd(lr: float) -> dict:
    return dict(optimizer=dict(type='SGD', lr=lr, momentum=0.9))


def semi_online(cfg: Config, folder: Path) -> None:
    """A frozen teacher from a file, a bridge, a student."""
    torch.save(dict(meta={}, state_dict=build(segmentor(8), seed=5).state_dict()), folder / 'teacher.pth')
    cfg.model.roles = dict(
        student=segmentor(4),
        teacher=dict(cfg=segmentor(8), checkpoint=str(folder / 'teacher.pth')),
        bridge=dict(like='teacher', train=['backbone.layer4', 'decode_head']),
    )
    cfg.model.update(frozen=['teacher'], distillers=[dict(type='mmadm.SOKD')])
    owners = ('student', 'bridge')
    cfg.optim_wrapper = dict(constructor='mmadm.RoleOptimWrapperConstructor', **{o: sgd(0.05) for o in owners})


def fused(cfg: Config, folder: Path) -> None:
    """Two students and a leader."""
    cfg.model.roles = {role: segmentor(4) for role in ('first', 'second', 'leader')}
    method = dict(
        type='mmadm.FFSD',
        students=['first', 'second'],
        at='pre_logits',
        shallow=['backbone.layer2'],
        warmup=4,
    )
    cfg.model.update(deploy='leader', distillers=[method])
    owners = ('first', 'second', 'leader', 'fusion', 'self_distillation')
    cfg.optim_wrapper = dict(constructor='mmadm.RoleOptimWrapperConstructor', **{o: sgd(0.05) for o in owners})


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module', params=[semi_online, fused], ids=['sokd', 'ffsd'])
def runs(request, data, tmp_path_factory) -> tuple[Path, tuple[str, ...]]:
    """Folder of a whole training of six iterations and of one that broke in the fifth and went on from the fourth."""
    folder = tmp_path_factory.mktemp('runs')
    cfg = role_config(data, 6, val_interval=6)
    cfg.param_scheduler = [dict(type='PolyLR', end=12, by_epoch=False)]
    request.param(cfg, folder)
    cfg.dump(folder / 'cfg.py')
    runner_of(cfg, folder / 'whole').train()
    with pytest.raises(InterruptedError):
        runner_of(cfg, folder / 'broken', custom_hooks=[Break(4)]).train()
    runner_of(cfg, folder / 'broken', resume=True).train()
    return folder, ('student', 'bridge') if request.param is semi_online else ('leader',)


def test_a_broken_training_ends_as_if_nothing_had_happened(runs):
    folder, _ = runs
    whole = weights_of(folder / 'whole/iter_6.pth')
    assert same(weights_of(folder / 'broken/iter_6.pth'), whole)
    assert not same(weights_of(folder / 'broken/iter_4.pth'), whole)


def test_each_exported_role_is_a_stock_model_that_costs_the_same(runs):
    folder, roles = runs
    state = weights_of(folder / 'whole/iter_6.pth')
    for role in roles:
        out = folder / f'{role}.pth'
        export.main([str(folder / 'whole/iter_6.pth'), '--role', role, '--out', str(out)])
        stock = build(ConfigDict(segmentor(WIDTHS[role])))
        plain = get_model_complexity_info(build(ConfigDict(segmentor(WIDTHS[role]))).eval(), (3, *SIZE))
        stock.load_state_dict(weights_of(out), strict=True)
        own = {key.removeprefix(f'roles.{role}.'): v for key, v in state.items() if key.startswith(f'roles.{role}.')}
        assert same(stock.state_dict(), own)
        found = get_model_complexity_info(stock.eval(), (3, *SIZE))
        assert (found['flops'], found['params']) == (plain['flops'], plain['params'])
        assert stock.test_step(batch())[0].seg_logits.data.isfinite().all()


def test_the_bridge_left_its_teacher_behind_in_the_tail_alone(runs):
    folder, roles = runs
    if 'bridge' not in roles:
        pytest.skip('FFSD has no bridge')
    bridge, teacher = weights_of(folder / 'bridge.pth'), weights_of(folder / 'teacher.pth')
    moved = {'.'.join(key.split('.')[:2]) for key, value in bridge.items() if not torch.equal(value, teacher[key])}
    assert 'backbone.layer4' in moved and {key.partition('.')[0] for key in moved} == {'backbone', 'decode_head'}
    assert {key for key in moved if key.startswith('backbone')} == {'backbone.layer4'}
