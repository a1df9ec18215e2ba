"""Where ADM's maps lie on the objects of a semantic segmentation, by hand."""

import pytest
import torch
from role_outputs import logged, role_outputs

from mmadm.registry import MODELS
from mmadm.structures import GroundTruth, Step

# what is an object (class 2 or 4) at 2 x 2 positions; 255 is labelled by nobody
LABELS = torch.tensor([[[2, 2, 0, 0], [2, 2, 0, 0], [4, 4, 255, 255], [4, 4, 255, 255]]])
COSINES = torch.tensor([[[0.9, 0.8], [0.1, 0.2]]])


def observe(foreground, labels=LABELS, iteration=0, **options):
    """Log a pair whose student is strongest at the right, whose teacher is strongest at the left."""
    strong_left, strong_right = torch.tensor([[[3.0, 1.0], [2.0, 0.5]]]), torch.tensor([[[1.0, 3.0], [0.5, 2.0]]])
    student = torch.stack([torch.ones_like(COSINES), torch.zeros_like(COSINES)], 1) * strong_right
    teacher = torch.stack([COSINES, (1 - COSINES**2).sqrt()], 1) * strong_left
    distiller = MODELS.build(dict(type='mmadm.ADM', foreground=foreground, **options))
    distiller.trainable = frozenset(['student', 'teacher'])
    taps = dict(student=dict(feats=[student.requires_grad_()]), teacher=dict(feats=[teacher.requires_grad_()]))
    outputs = role_outputs(taps, GroundTruth(labels) if isinstance(labels, torch.Tensor) else labels)
    return logged(distiller(outputs, Step(iteration)))


def test_overlaps_of_the_most_similar_and_of_the_strongest_positions():
    found = observe([2, 4])  # objects: the left column
    # similar: the upper row shares one of three; active: the student's right column none, the teacher's left one all
    assert float(found['student.overlap_similar']) == pytest.approx(1 / 3)
    assert float(found['student.overlap_active']) == 0
    assert float(found['teacher.overlap_active']) == 1
    assert float(found['student.overlap_chance']) == pytest.approx(0.5 / 1.5)
    assert float(found['student.foreground_area']) == 0.5
    weights = (COSINES.flatten() / 0.1).softmax(0)
    assert float(found['student.foreground']) == pytest.approx(float(weights[0] + weights[2]), rel=1e-5)


def test_only_the_listed_classes_are_objects():
    found = observe([4])  # the lower left position
    assert float(found['student.overlap_similar']) == 0
    assert float(found['student.foreground_area']) == 0.25


@pytest.mark.parametrize('avatars', [None, dict(num=2)], ids=['plain', 'avatars'])
def test_observing_changes_no_loss_and_has_no_gradient(avatars):
    torch.manual_seed(0)
    plain = observe(False, avatars=avatars)
    torch.manual_seed(0)
    observed = observe([2, 4], avatars=avatars)
    assert {key for key in observed if 'overlap' in key or 'foreground' in key} == set(observed) - set(plain)
    assert all(torch.equal(value, observed[key]) for key, value in plain.items())
    assert not any(value.requires_grad for key, value in observed.items() if key not in plain)


def test_boxes_say_nothing_about_a_segmentation():
    assert set(observe(True)) == set(observe(False))


def test_what_a_log_of_every_tenth_iteration_shows_is_observed_then():
    looked = [i for i in range(30) if 'student.overlap_similar' in observe([2, 4], iteration=i)]
    # the first, so that a log has every column from its start; then the tenth, the twentieth, the thirtieth
    assert looked == [0, 9, 19, 29]
