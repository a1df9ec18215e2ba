"""TridentNet sees each image three times in training; what it learns and teaches is the branch that predicts."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from small_detectors import batch, build, detector, distillation
from tap_reader import TapReader

EDGES = [
    dict(type='Transfer', source='teacher', learner='student', at=at, loss=dict(type=loss))
    for at, loss in (('feats', 'ChannelWiseDivergence'), ('logits', 'KLDivergence'))
]


@pytest.fixture(scope='module')
def model():
    return build(ConfigDict(detector('trident')))


@pytest.fixture
def data(model):
    return model.data_preprocessor(batch(), True)


@pytest.mark.parametrize('tested', [0, 1, 2, -1])
def test_a_learner_shows_the_branch_that_predicts(model, data, tested):
    parts = [part for part in model.modules() if hasattr(part, 'test_branch_idx')]
    for part in parts:
        part.test_branch_idx = 1 if tested == -1 else tested  # where all predict it is the middle one
    with torch.no_grad():
        expected = model.eval().backbone(data['inputs'])
        for part in parts:
            part.test_branch_idx = tested
        output = TapReader('student', model).loss(model.train(), **data, taps=['feats'])
        assert len(model.backbone(data['inputs'])[0]) == 6
        seen_by_others = TapReader('teacher', model).features(model.eval(), data['inputs'], ['feats'])
    for part in parts:
        part.test_branch_idx = 1
    torch.testing.assert_close(output.taps['feats'][0], expected[0])
    torch.testing.assert_close(seen_by_others.taps['feats'][0], expected[0])
    assert output.strides['feats'] == ((16.0, 16.0),)


def test_regions_of_all_branches_are_scored_on_their_image(model, data):
    sampled, scores = [], []
    head = model.roi_head
    hooks = [
        head.bbox_roi_extractor.register_forward_pre_hook(lambda _, args: sampled.append(args[1])),
        head.bbox_head.register_forward_hook(lambda *args: scores.append(args[2][0])),
    ]
    output = TapReader('student', model).loss(model.train(), **data, taps=['logits'])
    for hook in hooks:
        hook.remove()
    assert sampled[0][:, 0].max() == 5  # two images in three branches
    assert torch.equal(output.rois[:, 0], sampled[0][:, 0] % 2) and torch.equal(output.rois[:, 1:], sampled[0][:, 1:])
    assert torch.equal(output.taps['logits'][0], scores[0])
    with torch.no_grad():
        teacher = TapReader('teacher', model)
        learning = TapReader('teacher', model).features(model.train(), **_taps(data)).on_rois(output.rois, 'logits')
        frozen = teacher.features(model.eval(), **_taps(data)).on_rois(output.rois, 'logits')
        expected = head._bbox_forward(model.extract_feat(data['inputs']), output.rois)['cls_score']
    torch.testing.assert_close(frozen, expected)
    torch.testing.assert_close(learning, expected)
    assert len(expected) == len(sampled[0]) and expected.std(dim=0).min() > 0


def _taps(data):
    return dict(inputs=data['inputs'], taps=['logits'], data_samples=data['data_samples'])


@pytest.mark.parametrize('frozen', [[], ['teacher']])
def test_it_learns_from_its_kind(frozen):
    roles = dict(student=detector('trident'), teacher=detector('trident', 8))
    model = distillation(roles=roles, distillers=EDGES, frozen=frozen)
    losses = model(**model.data_preprocessor(batch(), True), mode='loss')
    taught = {key: value for key, value in losses.items() if 'loss_transfer' in key}
    assert len(taught) == 2 and all(value > 0 for value in taught.values())
    sum(taught.values()).backward()
    assert all(parameter.grad is None for parameter in model.roles.teacher.parameters())
    assert model.roles.student.backbone.layer3[0].conv2.weight.grad.any()


def test_a_detector_without_branches_learns_from_it():
    roles = dict(student=detector('mask_c4'), teacher=detector('trident'))
    roles['student'].update(type='FasterRCNN')
    del roles['student']['roi_head']['mask_head']
    model = distillation(roles=roles, distillers=EDGES, frozen=['teacher'])
    losses = model(**model.data_preprocessor(batch(), True), mode='loss')
    assert all(value > 0 for key, value in losses.items() if 'loss_transfer' in key)
