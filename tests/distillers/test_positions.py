"""Law 6: what is no image does not count, and two roles are compared at the same image content."""

from __future__ import annotations

from copy import deepcopy

import pytest
import small_detectors
import small_segmentors
import torch
from role_outputs import as_facts, logged, role_outputs

from mmadm.distillers import ADM, KDCL, MutualLearning, SwitOKD, Transfer
from mmadm.structures import BatchArea, GroundTruth, Step

#: Two images in a batch of 32 x 48 pixels: maps of stride 8 are 4 x 6, of which 3 x 5 and 2 x 4 positions count
AREA = BatchArea((32, 48), ((24, 40), (16, 32)))
SHARES = ((3, 5), (2, 4))
ROLES = ('student', 'teacher')
TRANSFERS = ['ChannelWiseDivergence', 'PearsonDistance', 'HintMSE', 'AttentionTransfer']


def maps(channels, noise=0.0, seed=0):
    """Maps of both roles; noise is what stands in the padding."""
    generator = torch.Generator().manual_seed(seed)
    found = {role: torch.randn(2, channels, 4, 6, generator=generator) for role in ROLES}
    for values in found.values():
        for image, (rows, columns) in enumerate(SHARES):
            values[image, :, rows:] += noise
            values[image, :, :, columns:] -= noise
    return found


def distillers():
    """Every method at a map, by name: the distiller, its tap, whether channels are classes."""
    found = {
        'ADM': (ADM(at='feats', divergence=1.0), 'feats'),
        'ADM uniform': (ADM(at='feats', divergence=1.0, region='uniform'), 'feats'),
        'ADM topk': (ADM(at='feats', divergence=1.0, region='topk'), 'feats'),
        'DML': (MutualLearning(ROLES), 'logits'),
        'KDCL': (KDCL(ROLES), 'logits'),
        'SwitOKD': (SwitOKD(), 'logits'),
        'DIST': (Transfer('teacher', 'student', dict(type='DIST')), 'logits'),
        'DKD': (Transfer('teacher', 'student', dict(type='DecoupledKL')), 'logits'),
        'AKD': (
            Transfer('teacher', 'student', dict(type='HintMSE'), 'feats',
                     avatars=dict(num=2, perturbation=dict(type='GaussianNoise', std=0.0))), 'feats',
        ),
        'stock': (Transfer('teacher', 'student', dict(type='mmdet.SmoothL1Loss'), 'feats'), 'feats'),
    }  # fmt: skip
    for loss in TRANSFERS:
        found[loss] = (Transfer('teacher', 'student', dict(type=loss), 'feats'), 'feats')
    return found


def computed(distiller, tap, values):
    labels = torch.full((2, 32, 48), 255)
    for image, (height, width) in enumerate(AREA.images):
        labels[image, :height, :width] = (torch.arange(height * width) % 5).reshape(height, width)
    taps = {role: {tap: [value.clone().requires_grad_()]} for role, value in values.items()}
    outputs = role_outputs(taps, GroundTruth(labels), AREA)
    distiller.bind(as_facts(outputs), ROLES)
    found = distiller(outputs, Step())
    sum(found.losses.values()).backward()
    return {key: value.item() for key, value in logged(found).items()}, {r: taps[r][tap][0].grad for r in ROLES}


@pytest.mark.parametrize('name', sorted(distillers()))
def test_noise_in_the_padding_changes_nothing(name):
    distiller, tap = distillers()[name]
    clean, _ = computed(distiller, tap, maps(5))
    noisy, gradients = computed(distiller, tap, maps(5, noise=100.0))
    assert noisy == pytest.approx(clean, rel=1e-5)
    for gradient in filter(lambda g: g is not None, gradients.values()):
        for image, (rows, columns) in enumerate(SHARES):
            assert not gradient[image, :, rows:].any() and not gradient[image, :, :, columns:].any()
            # a divergence is flat where maps point away from each other already
            assert gradient[image, :, :rows, :columns].any() or name == 'ADM topk'


@pytest.mark.parametrize('divisor', [64, 128])
def test_the_size_to_which_a_batch_is_padded_changes_nothing(divisor):
    """Taps near the images: deeper ones see where the padding ends."""
    distillers = [
        dict(type='ADM', at='backbone.layer1', divergence=1.0),
        *(
            dict(type='Transfer', source='teacher', learner='student', at='backbone.layer1', loss=dict(type=loss))
            for loss in TRANSFERS
        ),
    ]

    def losses(divisor):
        roles = dict(student=small_detectors.detector('retinanet'), teacher=small_detectors.detector('retinanet'))
        for cfg in roles.values():
            cfg['data_preprocessor']['pad_size_divisor'] = divisor
        model = small_detectors.distillation(roles=roles, distillers=distillers)
        data = small_detectors.batch()
        found = model(**model.data_preprocessor(deepcopy(data), True), mode='loss')
        return {k: v.item() for k, v in found.items() if 'transfer' in k or 'consensus' in k or 'divergence' in k}

    small, large = losses(32), losses(divisor)
    assert len(small) == 2 + len(TRANSFERS) and all(small.values())
    assert large == pytest.approx(small, rel=0.02)


@pytest.mark.parametrize('other', [dict(size=(48, 64)), dict(size=(40, 36)), dict(size=None, size_divisor=20)])
def test_segmentors_of_equal_weights_agree_however_they_are_padded(other):
    roles = dict(student=small_segmentors.segmentor(4, dropout=0.0), teacher=small_segmentors.segmentor(4, dropout=0.0))
    roles['teacher']['data_preprocessor'].update(other)
    model = small_segmentors.distillation(
        roles=roles, distillers=[dict(type='ADM', at='backbone.layer1'), dict(type='KDCL', roles=list(ROLES))]
    )
    model.roles['teacher'].load_state_dict(model.roles['student'].state_dict())
    losses = model(**model.data_preprocessor(small_segmentors.batch(), True), mode='loss')
    assert losses['student.similarity'].item() == pytest.approx(1.0, abs=0.02)
    assert losses['student.loss_kdcl'].item() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize('divisor', [1, 64])
def test_detectors_of_equal_weights_agree_however_they_are_padded(divisor):
    roles = dict(student=small_detectors.detector('retinanet'), teacher=small_detectors.detector('retinanet'))
    roles['teacher']['data_preprocessor']['pad_size_divisor'] = divisor
    model = small_detectors.distillation(roles=roles, distillers=[dict(type='ADM', at='backbone.layer1')])
    model.roles['teacher'].load_state_dict(model.roles['student'].state_dict())
    losses = model(**model.data_preprocessor(small_detectors.batch(), True), mode='loss')
    assert losses['student.similarity'].item() == pytest.approx(1.0, abs=0.02)
