"""Per-role optimisers in a real mmengine Runner: schedules, logs, accumulation, automatic learning rates."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset


class Points(Dataset):
    """Eight inputs of the pair."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        return {'inputs': torch.tensor([0.1 * index, 1.0 - 0.05 * index])}


@pytest.fixture
def run(tmp_path, make_pair):
    """Train a pair for five iterations with two inputs each; returns the Runner afterwards."""

    def train(optim_wrapper: dict, **kwargs) -> Runner:
        name = f'run{len(list(tmp_path.iterdir()))}'
        runner = Runner(
            model=make_pair(), work_dir=str(tmp_path / name), experiment_name=f'{tmp_path.name}_{name}',
            train_dataloader={'dataset': Points(), 'batch_size': 2, 'sampler': {'type': 'InfiniteSampler'}},
            train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': 5}, optim_wrapper=optim_wrapper,
            default_hooks={'checkpoint': None, 'logger': {'type': 'LoggerHook', 'interval': 1}},
            randomness={'seed': 0}, log_level='ERROR', **kwargs,
        )  # fmt: skip
        runner.train()
        return runner

    return train


def sgd(lr: float, **kwargs) -> dict:
    return {'optimizer': {'type': 'SGD', 'lr': lr, 'momentum': 0.9}, **kwargs}


def per_role(**kwargs) -> dict:
    return {'constructor': 'mmadm.RoleOptimWrapperConstructor', 'student': sgd(0.1), 'teacher': sgd(0.01), **kwargs}


def history(runner: Runner, key: str) -> list[float]:
    return [float(value) for value in runner.message_hub.get_scalar(f'train/{key}').data[0]]


def test_a_list_of_schedulers_moves_all_roles_as_stock_moves_one(run):
    schedule = [
        {'type': 'LinearLR', 'start_factor': 0.5, 'begin': 0, 'end': 2, 'by_epoch': False},
        {'type': 'PolyLR', 'power': 0.9, 'begin': 2, 'end': 5, 'by_epoch': False},
    ]
    stock = history(run({'type': 'OptimWrapper', **sgd(0.1)}, param_scheduler=schedule), 'lr')
    runner = run(per_role(), param_scheduler=schedule)
    assert len(set(stock)) > 2
    assert history(runner, 'student.lr') == stock
    assert history(runner, 'teacher.lr') == pytest.approx([0.1 * lr for lr in stock])


def test_schedulers_by_role_move_each_its_own(run):
    schedule = {
        'student': {'type': 'MultiStepLR', 'milestones': [2, 4], 'gamma': 0.1, 'by_epoch': False},
        'teacher': [{'type': 'ConstantLR', 'factor': 0.5, 'begin': 0, 'end': 3, 'by_epoch': False}],
    }
    runner = run(per_role(), param_scheduler=schedule)
    assert history(runner, 'student.lr') == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert history(runner, 'teacher.lr') == pytest.approx([0.005, 0.005, 0.01, 0.01, 0.01])


@pytest.mark.parametrize('kind', [
    {}, {'type': 'AmpOptimWrapper', 'dtype': 'bfloat16'}, {'type': 'AmpOptimWrapper', 'dtype': 'float16'},
])  # fmt: skip
def test_schedulers_see_the_steps(run, kind):
    schedule = {'type': 'PolyLR', 'begin': 0, 'end': 5, 'by_epoch': False}
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message=r'.*optimizer\.step.*')
        runner = run(per_role(**kind), param_scheduler=schedule)
    assert [member._global_step for member in runner.optim_wrapper.values()] == [4, 4]  # counted from -1


def test_same_settings_for_all_roles_equal_one_stock_wrapper(run):
    schedule = {'type': 'CosineAnnealingLR', 'T_max': 5, 'by_epoch': False}
    optimizer = {'optimizer': {'type': 'AdamW', 'lr': 0.01, 'weight_decay': 0.1}}
    by_role = {'student': optimizer, 'teacher': optimizer, 'constructor': 'mmadm.RoleOptimWrapperConstructor'}
    # 5 is odd: the last iteration is a remainder, which only the counts set by the Runner tell
    stock = run({**optimizer, 'accumulative_counts': 2}, param_scheduler=schedule).model
    model = run({**by_role, 'accumulative_counts': 2}, param_scheduler=schedule).model
    without = run(by_role, param_scheduler=schedule).model
    for ours, theirs in zip(model.parameters(), stock.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(model.roles['teacher'].weight, without.roles['teacher'].weight)


def test_auto_scale_lr_scales_every_role(run):
    runner = run(per_role(), auto_scale_lr={'enable': True, 'base_batch_size': 8})
    assert history(runner, 'student.lr') == pytest.approx([0.025] * 5)
    assert history(runner, 'teacher.lr') == pytest.approx([0.0025] * 5)


def test_the_log_names_the_role(run):
    runner = run(per_role(teacher=sgd(0.01, clip_grad={'max_norm': 0.5})))
    (log,) = Path(runner.log_dir).glob('vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line['student.lr'] for line in lines] == [0.1] * 5
    assert [line['teacher.lr'] for line in lines] == [0.01] * 5
    assert all(line['teacher.grad_norm'] > 0.5 for line in lines)
    assert not any('grad_norm' in line or 'student.grad_norm' in line for line in lines)
