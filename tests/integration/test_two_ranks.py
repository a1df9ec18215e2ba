"""Two gloo ranks give the weights of one process with the joined batch."""

from __future__ import annotations

import pytest
import torch
from split_batch_trainings import PARTS, Run, gap, per_role, run, run_rank, sgd
from warm_processes import spawn_two

OPTIM_WRAPPERS = {
    'plain': sgd(0.05),
    # the teacher is clipped hard, so that its steps would differ if it were clipped before the exchange
    'per_role': per_role(sgd(0.05), sgd(0.02, clip_grad=dict(max_norm=0.1))),
}


@pytest.fixture(scope='module')
def ranks(tmp_path_factory) -> list[dict[str, Run]]:
    """All runs of both ranks: two images each, or twice one."""
    folder = tmp_path_factory.mktemp('two_ranks')
    spawn_two(run_rank, folder, OPTIM_WRAPPERS)
    return [torch.load(folder / f'rank{rank}.pth') for rank in range(2)]


@pytest.fixture(scope='module')
def one(tmp_path_factory) -> dict[str, Run]:
    """The runs of one process with batches of four."""
    folder = tmp_path_factory.mktemp('one_process')
    return {name: run(folder / name, optim_wrapper, 4) for name, optim_wrapper in OPTIM_WRAPPERS.items()}


@pytest.mark.parametrize('how', ['', ', accumulating'])
@pytest.mark.parametrize('name', OPTIM_WRAPPERS)
def test_two_ranks_equal_one_process(ranks, one, name, how):
    right = one[name]
    for rank in ranks:
        found = rank[name + how]
        assert all(torch.equal(found['start'][key], value) for key, value in right['start'].items())
        for part in PARTS:
            assert gap(found['end'], right['end'], right['start'], part) < 1e-4


@pytest.mark.parametrize('how', ['', ', accumulating'])
@pytest.mark.parametrize('name', OPTIM_WRAPPERS)
def test_both_ranks_end_with_the_same_bits(ranks, name, how):
    first, second = (rank[name + how]['end'] for rank in ranks)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize('name', OPTIM_WRAPPERS)
def test_nothing_is_exchanged_while_gradients_accumulate(ranks, name):
    first, second = (rank[f'{name}, accumulating']['gradients'] for rank in ranks)
    assert first.keys() == ranks[0][name]['start'].keys()
    # a residual branch starts with a zero scale, so some gradients are exactly zero on both ranks
    assert not [key for key in first if first[key].any() and torch.equal(first[key], second[key])]


def test_without_exchange_the_ranks_end_apart(ranks, one):
    right = one['per_role']
    first, second = (rank['apart']['end'] for rank in ranks)
    for part in PARTS:
        assert gap(first, second, right['start'], part) > 0.01
        assert gap(first, right['end'], right['start'], part) > 0.01
