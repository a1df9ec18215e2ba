"""What goes wrong on one of two ranks ends on both alike, and never in waiting."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing
from rank_trainings import be_rank

#: Seconds that a rank waits for another, and in which it has to notice that the other is dead
TIMEOUT, NOTICED = 300.0, 60.0
JOBS = [('adm', fault, '') for fault in ('exploding', 'overflow', 'nan loss', 'held', 'killed')]
Ends = list[dict[str, Any]]


def start(folder: Path, jobs: list[tuple[str, str, str]], work: Path | None = None) -> list[Any]:
    """Start two ranks."""
    folder.mkdir()
    context = torch.multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['rank_trainings', 'mmseg.models'])
    ranks = [context.Process(target=be_rank, args=(rank, folder, TIMEOUT, jobs, work)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    return ranks


def ends(folder: Path) -> Ends:
    """What each rank wrote, without the kind of networks."""
    found = [json.loads((folder / f'rank{rank}.json').read_text()) for rank in (0, 1)]
    return [{name.split(', ')[2]: end for name, end in rank.items()} for rank in found]


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Two ranks did everything in ``first``; two more, in ``second``, wanted the work dir of a training of theirs."""
    folder = tmp_path_factory.mktemp('faults')
    first = start(folder / 'first', JOBS)
    held = folder / 'first/segmentor_adm_held'
    try:
        deadline = time.monotonic() + TIMEOUT
        while not held.with_suffix('.moment').exists():
            assert first[1].is_alive() and time.monotonic() < deadline
            time.sleep(0.1)
        second = start(folder / 'second', [('adm', 'held', '')], folder / 'first')
        try:
            for process in second:
                process.join(TIMEOUT / 2)
            assert [process.exitcode for process in second] == [0, 0]  # the first training is still there
        finally:
            for process in second:
                process.kill()
        held.with_suffix('.over').touch()
        for process in first:
            process.join(TIMEOUT)
        assert [process.exitcode for process in first] == [0, -9]
    finally:
        for process in first:
            process.kill()
    return folder


@pytest.fixture(scope='module')
def first(folder) -> Ends:
    return ends(folder / 'first')


def test_a_gradient_that_explodes_on_one_rank_breaks_the_same_loss_on_both(first):
    one, other = (rank['exploding'] for rank in first)
    assert one['end'].startswith("NonFiniteLossError: non-finite loss at iteration 4 (role 'student'")
    assert (one['end'], one['weights']) == (other['end'], other['weights'])


@pytest.mark.parametrize(('fault', 'end'), [('overflow', 'finished'), ('nan loss', 'NonFiniteLossError: non-finite')])
def test_what_breaks_no_weight_leaves_both_with_the_same(first, fault, end):
    one, other = (rank[fault] for rank in first)
    assert one['end'].startswith(end) and one['finite']
    assert (one['end'], one['weights']) == (other['end'], other['weights'])


def test_two_ranks_are_one_training_in_a_work_dir_and_two_more_are_refused(folder, first):
    for rank, other in zip(first, ends(folder / 'second'), strict=True):
        assert rank['held']['end'] == 'finished'
        assert other['held']['end'].startswith('ConfigError: work_dir=')
        assert 'is in use by another training (process' in other['held']['end']


def test_a_rank_whose_other_is_killed_ends_at_once(folder, first):
    assert 'killed' not in first[1]
    end = first[0]['killed']
    assert end['end'].startswith(('RuntimeError', 'DistBackendError')) and 'peer' in end['end']
    assert end['at'] - float((folder / 'first/segmentor_adm_killed.moment').read_text()) < NOTICED
