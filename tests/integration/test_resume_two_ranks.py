"""Saving, averaging, scoring by role, stopping and resuming with two processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_trainings import role_config, runner_of, same, train_rank, weights_of, write_images
from warm_processes import spawn_two

from mmadm.utils.checkpoint import read_checkpoint


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Work dirs ``whole``, ``broken`` (broken and resumed) and ``grown``, which went on from ``single``."""
    folder = tmp_path_factory.mktemp('ranks')
    write_images(folder / 'data')
    average = dict(type='mmadm.RoleEMAHook')
    runner_of(role_config(folder / 'data', iterations=4), folder / 'single', custom_hooks=[average]).train()
    spawn_two(train_rank, folder)
    return folder


def test_a_resumed_training_ends_as_an_uninterrupted_one(folder):
    assert same(weights_of(folder / 'broken/iter_5.pth'), weights_of(folder / 'whole/iter_5.pth'))


def test_averages_are_saved_and_resumed(folder):
    whole, broken = (read_checkpoint(folder / name / 'iter_5.pth') for name in ('whole', 'broken'))
    assert same(broken['ema_state_dict'], whole['ema_state_dict'])
    student = weights_of(folder / 'whole/iter_5_student.pth')
    assert all(torch.equal(value, whole['state_dict'][f'roles.student.{key}']) for key, value in student.items())
    weights = {key.removeprefix('module.'): value for key, value in whole['ema_state_dict'].items()}
    assert not torch.equal(weights['roles.student.decode_head.conv_seg.weight'], student['decode_head.conv_seg.weight'])


@pytest.mark.parametrize(('then', 'first'), [('grown', 'single'), ('shrunk', 'broken')])
def test_a_training_goes_on_with_another_number_of_ranks(folder, then, first):
    if then == 'shrunk':
        start = dict(resume=True, load_from=str(folder / 'broken/iter_4.pth'))
        hooks = [dict(type='mmadm.RoleEMAHook')]
        runner_of(role_config(folder / 'data', iterations=5), folder / then, custom_hooks=hooks, **start).train()
    before, after = (read_checkpoint(folder / path) for path in (f'{first}/iter_4.pth', f'{then}/iter_5.pth'))
    for checkpoint, steps in ((before, 4), (after, 5)):
        adam = checkpoint['optimizer']['teacher']['state']
        assert {float(state['step']) for state in adam.values()} == {steps}
        assert checkpoint['meta']['iter'] == steps
    assert not same(after['state_dict'], before['state_dict'])


def test_both_ranks_stop_at_a_loss_of_one(folder):
    first, second = ((folder / f'spoiled_{rank}.txt').read_text() for rank in (0, 1))
    assert first == second
    assert "non-finite loss at iteration 2 (role 'teacher': decode.loss_ce on rank 1). Lower" in first
    names = {path.name for path in (folder / 'spoiled').glob('*.pth')}
    assert names == {'last_good_iter_1.pth', 'last_good_iter_1_student.pth'}


def test_the_ranks_score_a_teacher_together(folder):
    first, second = ((folder / f'weak_{rank}.txt').read_text() for rank in (0, 1))
    assert first == second
    # three images, of which the sampler repeats one to deal equally
    assert "on 4 validation images frozen role 'teacher' scores mIoU=" in first


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
