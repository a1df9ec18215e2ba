"""SwitOKD on two gloo ranks: both take the decision that the joined batch gives, whatever each alone would do."""

import pytest
import torch
from switokd_rank_steps import CASES, run_rank
from warm_processes import spawn_two


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('switch')
    spawn_two(run_rank, folder)
    return [torch.load(folder / f'rank{rank}.pth') for rank in range(2)]


def test_alone_the_ranks_would_disagree(ranks):
    for name in CASES:
        assert [rank[f'{name}, alone'] for rank in ranks] == [1.0, 0.0]


@pytest.mark.parametrize(('name', 'expert'), [('pauses', 1.0), ('learns', 0.0)])
def test_together_both_decide_alike(ranks, name, expert):
    assert [rank[name]['expert'] for rank in ranks] == [expert, expert]
    assert [rank[name]['unmoved'] for rank in ranks] == [bool(expert)] * 2
    assert all((rank[name]['momenta'] == 0) == bool(expert) for rank in ranks)


@pytest.mark.parametrize('name', CASES)
def test_the_weights_stay_equal(ranks, name):
    first, second = (rank[name]['end'] for rank in ranks)
    assert all(torch.equal(first[key], second[key]) for key in first)
