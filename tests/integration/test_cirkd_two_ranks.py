"""CIRKD on two gloo ranks: both have the same memories, which are those of one process with all images."""

import pytest
import torch
from cirkd_rank_steps import IMAGES, run_rank, trained
from warm_processes import spawn_two


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('cirkd')
    spawn_two(run_rank, folder)
    return [torch.load(folder / f'rank{rank}.pth') for rank in range(2)]


@pytest.fixture(scope='module')
def one():
    return trained(range(IMAGES))


def test_both_ranks_have_the_same_memories_to_the_bit(ranks):
    first, second = (rank['queues'] for rank in ranks)
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_memories_are_those_of_one_process(ranks, one):
    assert int(one['queues']['queues.pixel.pointer'].max()) < int(one['queues']['queues.pixel.filled'].max()) == 50
    for key, value in one['queues'].items():
        torch.testing.assert_close(ranks[0]['queues'][key], value)


def test_losses_are_those_of_one_process(ranks, one):
    for step, log in enumerate(one['logs']):
        assert set(log) == {'student.loss_cirkd_pixel', 'student.loss_cirkd_region'} and all(log.values())
        for key, value in log.items():
            both = [rank['logs'][step][key] for rank in ranks]
            assert sum(both) / 2 == pytest.approx(value, rel=1e-3) and both[0] != both[1]


def test_the_weights_stay_equal(ranks):
    first, second = (rank['end'] for rank in ranks)
    assert all(torch.equal(first[key], second[key]) for key in first)
