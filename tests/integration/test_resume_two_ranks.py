"""Saving, scoring by role and resuming with two processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import same, train_rank, weights_of, write_images

from mmadm.utils.checkpoint import read_checkpoint


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Two work dirs, ``whole`` and ``broken``; the second training was broken and resumed."""
    folder = tmp_path_factory.mktemp('ranks')
    write_images(folder / 'data')
    torch.multiprocessing.spawn(train_rank, args=(folder,), nprocs=2)
    return folder


def test_a_resumed_training_ends_as_an_uninterrupted_one(folder):
    assert same(weights_of(folder / 'broken/iter_5.pth'), weights_of(folder / 'whole/iter_5.pth'))


def test_the_first_rank_looks_at_the_labels_for_all(folder):
    first, second = ((folder / f'refused_{rank}.txt').read_text() for rank in (0, 1))
    assert first == second
    assert 'ann/train/7.png: label ids [9] are outside 0..4' in first


def test_every_rank_has_its_own_generators(folder):
    first, second = read_checkpoint(folder / 'whole/iter_4.pth')['generators']['ranks']
    assert not torch.equal(first['torch'], second['torch'])
    assert first['numpy'] != second['numpy']


def test_files_are_written_once_and_removed_together(folder):
    names = {path.name for path in (folder / 'whole').glob('*.pth*')}
    (best,) = {name for name in names if name.startswith('best') and not name.endswith('_student.pth')}
    full = {'iter_4', 'iter_5', Path(best).stem}
    assert names == {f'{name}{end}.pth' for name in full for end in ('', '_student')}
