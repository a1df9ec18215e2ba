"""ReviewKD: the published figures, what padding does not do, what it makes, and what it refuses."""

from __future__ import annotations

import pytest
import small_detectors
import small_segmentors
import torch
from role_outputs import as_facts, role_outputs

from mmadm.distillers import ReviewKD
from mmadm.functional import hierarchical_distance
from mmadm.structures import BatchArea, Step
from mmadm.utils.errors import ConfigError

AREA = BatchArea((32, 64), ((24, 56), (16, 32)))
SIDES = ((4, 8), (2, 4), (1, 2))


def bound(distiller, outputs):
    """The step with the connectors that a distiller asks for."""
    found = distiller.bind(as_facts(outputs), ['student'])
    return Step(connectors={key: module for key, (_, module) in found.items()})


def maps(channels, noise=0.0, seed=0):
    """Three levels of two images; noise is what stands in the padding."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for (rows, columns), stride in zip(SIDES, (8, 16, 32), strict=True):
        level = torch.randn(2, channels, rows, columns, generator=generator)
        for values, (height, width) in zip(level, AREA.images, strict=True):
            values[:, -(-height // stride) :] += noise
            values[:, :, -(-width // stride) :] -= noise
        found.append(level.requires_grad_())
    return found


def loss_of(student, teacher, area=None, at='feats', **options):
    distiller = ReviewKD(at=at, mid_channels=6, **options)
    outputs = role_outputs(dict(student=dict(feats=student), teacher=dict(feats=teacher)), area=area)
    torch.manual_seed(0)
    return distiller(outputs, bound(distiller, outputs)).losses['student.loss_reviewkd']


def test_a_fused_chain_is_compared_as_by_the_published_program(golden):
    """The figures of the fusion, and of the distance of each of its levels."""
    case = golden('reviewkd_fusion')
    features = [case.inputs[f'student_{level}'].requires_grad_() for level in range(3)]
    generator = torch.Generator().manual_seed(0)
    targets = [torch.randn(case.expected[f'out_{level}'].shape, generator=generator) for level in range(3)]
    outputs = role_outputs(dict(student=dict(feats=features), teacher=dict(feats=targets)))
    distiller = ReviewKD(mid_channels=int(case.params['mid_channels']), weight=1.5)
    step = bound(distiller, outputs)
    weights = {name: value for name, value in case.inputs.items() if name.startswith('levels.')}
    step.connectors['fusion'].load_state_dict(weights, strict=False)
    loss = distiller(outputs, step).losses['student.loss_reviewkd']
    expected = sum(hierarchical_distance(case.expected[f'out_{k}'], targets[k]) for k in range(3))
    torch.testing.assert_close(loss, 1.5 * expected, rtol=1e-4, atol=1e-6)


def test_noise_in_the_padding_changes_nothing():
    clean, noisy = maps(5), maps(5, noise=100.0)
    teacher, other = maps(7, seed=1), maps(7, noise=100.0, seed=1)
    found = loss_of(clean, teacher, AREA)
    torch.testing.assert_close(loss_of(noisy, other, AREA), found)
    assert not torch.allclose(loss_of(noisy, other), loss_of(clean, teacher))
    gradients = torch.autograd.grad(loss_of(noisy, other, AREA), noisy)
    for gradient, stride in zip(gradients, (8, 16, 32), strict=True):
        for image, (height, width) in zip(gradient, AREA.images, strict=True):
            rows, columns = -(-height // stride), -(-width // stride)
            assert not image[:, rows:].any() and not image[:, :, columns:].any() and image.any()


def test_statistics_are_those_of_the_images_alone():
    """One image beside padding, and the same one by itself: rows and columns are whole at every level."""
    area = BatchArea((64, 64), ((32, 64), (32, 64)))
    sides = ((8, 8), (4, 4), (2, 2))
    generator = torch.Generator().manual_seed(0)
    padded = [[torch.randn(2, c, *side, generator=generator) for side in sides] for c in (3, 4)]
    cropped = [[level[:, :, : level.shape[2] // 2] for level in levels] for levels in padded]
    whole = BatchArea((32, 64), ((32, 64), (32, 64)))
    torch.testing.assert_close(loss_of(*padded, area), loss_of(*cropped, whole))


def test_deeper_levels_teach_only_what_is_not_deeper():
    student, teacher = maps(5), maps(7, seed=1)
    grads = torch.autograd.grad(loss_of(student, teacher), student)
    assert all(grad.any() for grad in grads)


def test_several_taps_make_one_chain():
    student, teacher = maps(5), maps(7, seed=1)
    taps = ['feats[0]', 'feats[1]', 'feats[2]']
    outputs = role_outputs(
        {
            role: {tap: [level] for tap, level in zip(taps, levels, strict=True)}
            for role, levels in (('student', student), ('teacher', teacher))
        },
        area=AREA,
    )
    distiller = ReviewKD(at=taps, mid_channels=6)
    torch.manual_seed(0)
    loss = distiller(outputs, bound(distiller, outputs)).losses['student.loss_reviewkd']
    assert torch.equal(loss, loss_of(student, teacher, AREA))


def test_the_fusion_learns_with_the_student_and_stays_out_of_its_file():
    model = small_detectors.distillation(
        'retinanet', frozen=['teacher'], distillers=[dict(type='ReviewKD', mid_channels=8, weight=1.0)]
    )
    assert set(model.connectors['reviewkd']) == {'fusion'} and model.owners == ('student',)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train_step(small_detectors.batch(), small_segmentors.plain_optimiser(model, lr=0.001))
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {f'connectors.reviewkd.fusion.levels.{k}.reduce_norm.running_mean' for k in range(5)} <= moved
    assert not [key for key in moved if key.startswith('roles.teacher')]
    assert not [key for key in model.roles['student'].state_dict() if 'levels' in key]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(at='logits'), r"ReviewKD.at: tap 'logits' of 'student' gives class scores .*no feature maps"),
        (dict(source='student'), "ReviewKD.source='student': must differ from learner"),
        (dict(mid_channels=0), 'ReviewKD.mid_channels=0: must be at least 1'),
        (dict(at=['feats[1]', 'feats[0]']), r'ReviewKD.at=.*from the finest to the coarsest'),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        small_detectors.distillation('retinanet', distillers=[dict(type='ReviewKD', **options)])


def test_off_is_off():
    model = small_detectors.distillation(
        'retinanet', frozen=['teacher'], distillers=[dict(type='ReviewKD', weight=0.0)]
    )
    losses = model(**model.data_preprocessor(small_detectors.batch(), True), mode='loss')
    assert not any('reviewkd' in key for key in losses)
