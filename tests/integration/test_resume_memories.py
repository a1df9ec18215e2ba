"""Memories and fusions in a checkpoint: a broken training goes on to the bit, and the student's file has neither."""

from __future__ import annotations

import pytest
import torch
from small_trainings import Break, losses_of, role_config, runner_of, same, weights_of, write_images

from mmadm.utils.checkpoint import read_checkpoint


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Work dirs of a whole training, and of one that was broken before its fourth iteration and resumed."""
    folder = tmp_path_factory.mktemp('memories')
    cfg = role_config(write_images(folder / 'data'), iterations=5)
    cfg.model.distillers = [
        # rings that are full before the break
        dict(
            type='mmadm.CIRKD',
            at='backbone.layer1',
            pixel_queue=20,
            region_queue=5,
            pixel_entries=40,
            region_entries=25,
        ),
        dict(type='mmadm.ReviewKD', mid_channels=4),
    ]
    runner_of(cfg, folder / 'whole').train()
    with pytest.raises(InterruptedError):
        runner_of(cfg, folder / 'broken', custom_hooks=[Break(3)]).train()
    runner_of(cfg, folder / 'broken', resume=True, load_from=str(folder / 'broken/iter_2.pth')).train()
    return folder


def test_a_resumed_training_ends_as_an_uninterrupted_one(folder):
    whole = weights_of(folder / 'whole/iter_5.pth')
    queues = [key for key in whole if key.startswith('distillers.cirkd.queues.')]
    assert len(queues) == 6 and same(weights_of(folder / 'broken/iter_5.pth'), whole)
    before = weights_of(folder / 'whole/iter_2.pth')
    assert not any(torch.equal(before[key], whole[key]) for key in queues if key.endswith(('entries', 'pointer')))
    assert any('reviewkd.fusion' in key and key.endswith('running_mean') for key in whole)


def test_every_loss_after_the_break_is_that_of_the_uninterrupted_run(folder):
    whole, resumed = (losses_of(folder / name) for name in ('whole', 'broken'))
    assert list(resumed) == [3, 4, 5] and resumed == {step: whole[step] for step in resumed}
    assert {'student.loss_cirkd_pixel', 'student.loss_reviewkd'} < set(resumed[5])


def test_the_file_of_the_student_has_neither_memories_nor_fusion(folder):
    student = read_checkpoint(folder / 'whole/iter_5_student.pth')['state_dict']
    whole = weights_of(folder / 'whole/iter_5.pth')
    assert set(student) == {key.removeprefix('roles.student.') for key in whole if key.startswith('roles.student.')}
    assert not [key for key in student if 'queue' in key or 'fusion' in key or 'levels' in key]
