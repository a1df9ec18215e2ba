"""Two micro-batches give the step of the large batch, also where the last one has no partner."""

from __future__ import annotations

import copy

import pytest
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from small_segmentors import build
from split_batch_trainings import DISTILLATION, PARTS, Scenes, Weights, gap, per_role, sgd, trained
from torch import nn

MICRO = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
LARGE = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
#: one stock wrapper whose teacher learns at half the rate, and the same per role
STOCK = sgd(0.05, paramwise_cfg=dict(custom_keys={'roles.teacher': dict(lr_mult=0.5)}))
BY_ROLE = per_role(sgd(0.05), sgd(0.025))


@pytest.fixture(scope='module')
def start() -> nn.Module:
    """An untrained model, to be copied."""
    return build(DISTILLATION)


def train(start: nn.Module, optim_wrapper: dict, batches: list[list[int]]) -> Weights:
    model, scenes = copy.deepcopy(start), Scenes()
    wrapper = build_optim_wrapper(model, optim_wrapper)
    wrapper.initialize_count_status(model, 0, len(batches))
    model.train()
    for batch in batches:
        model.train_step(pseudo_collate([scenes[i] for i in batch]), wrapper)
    return trained(model)


@pytest.fixture(scope='module')
def right(start) -> Weights:
    """Weights after two batches of four and the remainder of two, by stock means alone."""
    return train(start, STOCK, LARGE)


@pytest.mark.parametrize('optim_wrapper', [STOCK, BY_ROLE], ids=['plain', 'per role'])
def test_accumulation_equals_the_large_batch(start, right, optim_wrapper):
    found = train(start, dict(optim_wrapper, accumulative_counts=2), MICRO)
    for part in PARTS:
        assert gap(found, right, trained(start), part) < 1e-4


def test_per_role_large_batch_equals_stock(start, right):
    found = train(start, BY_ROLE, LARGE)
    for part in PARTS:
        assert gap(found, right, trained(start), part) < 1e-6


def test_small_batches_alone_end_elsewhere(start, right):
    found = train(start, BY_ROLE, MICRO)
    for part in PARTS:
        assert gap(found, right, trained(start), part) > 0.01
