"""Single-stage detectors: what the taps give is what the stock loss is computed from."""

from __future__ import annotations

import pytest
import torch
from small_detectors import CLASSES, SIZE, batch, build, detector, distillation, in_rows
from tap_reader import TapReader

from mmadm.functional import binary_kl_divergence, focal_binary_divergence
from mmadm.utils.errors import ConfigError

DENSE = ('retinanet', 'fcos', 'fcos_norm', 'atss', 'gfl', 'reppoints', 'rtmdet')
LEVELS = dict.fromkeys(DENSE, 5) | dict(rtmdet=3)
PRIORS = dict.fromkeys(DENSE, 1) | dict(retinanet=9)
ADM = dict(type='ADM', at='feats')
MUTUAL = dict(type='MutualLearning', roles=['student', 'teacher'])
TRANSFER = dict(type='Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence'))


@pytest.fixture(scope='module', params=DENSE)
def family(request) -> str:
    return request.param


@pytest.fixture(scope='module')
def model(family):
    return build(detector(family))


@pytest.fixture
def data(model):
    return model.train().data_preprocessor(batch(), True)


def test_logits_are_what_the_stock_loss_sees(family, model, data):
    seen = []
    handle = model.bbox_head.loss_cls.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    output = TapReader('student', model).loss(model, **data, taps=['logits'])
    handle.remove()
    levels = output.taps['logits']
    assert [level.shape[:2] for level in levels] == [(2 * PRIORS[family], CLASSES)] * LEVELS[family]
    assert torch.equal(torch.cat([in_rows(level, 2) for level in levels]), torch.cat(seen))
    assert output.by_sigmoid


def test_every_prior_of_a_position_has_its_own_distribution(family, model, data):
    taps = TapReader('student', model).loss(model, **data, taps=['feats', 'logits']).taps
    for level, stock in zip(taps['logits'], model.bbox_head(tuple(taps['feats']))[0], strict=True):
        for image in range(2):
            for prior in range(PRIORS[family]):
                mine = level[image * PRIORS[family] + prior]
                assert torch.equal(mine, stock[image, prior * CLASSES : (prior + 1) * CLASSES])


def test_boxes_are_the_regression_maps_in_training_and_when_frozen(family, model, data):
    adapter = TapReader('student', model)
    taps = adapter.loss(model, **data, taps=['feats', 'boxes']).taps
    stock = model.bbox_head(tuple(taps['feats']))
    if family == 'reppoints':  # points before and after refinement; the head adds the former to the latter
        for level in range(5):
            assert torch.equal(taps['boxes'][2 * level], stock[1][level])
            assert torch.equal(taps['boxes'][2 * level + 1] + stock[1][level], stock[2][level])
    else:
        # distributions: the four sides of a position follow each other in the batch
        folded = [level.unflatten(1, (4, -1)).flatten(0, 1) if family == 'gfl' else level for level in stock[1]]
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(taps['boxes'], folded, strict=True))
        assert len(taps['boxes']) == LEVELS[family]
    if family == 'rtmdet':  # its batch normalisation gives other features in eval mode
        return
    frozen = adapter.features(model.eval(), data['inputs'], ['boxes']).taps['boxes']
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(frozen, taps['boxes'], strict=True))


def test_normalised_boxes_would_be_pixels_in_eval_mode():
    """What the tap `boxes` undoes: the same head puts out other numbers in training and in eval mode."""
    model = build(detector('fcos_norm')).eval()
    inputs = model.data_preprocessor(batch(), True)['inputs']
    taps = TapReader('student', model).features(model, inputs, ['boxes']).taps['boxes']
    stock = model.bbox_head(model.extract_feat(inputs))[1]
    for level, stride in enumerate((8, 16, 32, 64, 128)):
        torch.testing.assert_close(taps[level] * stride, stock[level])
    assert taps[0].max() > 0


def test_levels_are_chosen_by_brackets(family, model, data):
    adapter = TapReader('student', model)
    names = ['feats', 'feats[1:3]', 'feats[0]', 'feats[-1]', 'logits[1:]']
    taps = adapter.loss(model, **data, taps=[*names, 'logits']).taps
    for name, chosen in dict(zip(names, (slice(None), slice(1, 3), slice(1), slice(-1, None)), strict=False)).items():
        expected = taps['feats'][chosen]
        assert [t.shape for t in taps[name]] == [t.shape for t in expected]
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(taps[name], expected, strict=True))
    assert len(taps['feats']) == LEVELS[family] and len(taps['feats[1:3]']) == 2
    assert all(torch.equal(a, b) for a, b in zip(taps['logits[1:]'], taps['logits'][1:], strict=True))
    with pytest.raises(ConfigError, match=r"tap 'feats\[7\]' gave no tensor. Its module has no such level"):
        adapter.features(model.eval(), data['inputs'], ['feats[7]'])
    with pytest.raises(ConfigError, match=r"'feats\[a\]': levels are chosen by"):
        adapter.reading(model, 'feats[a]')


def test_ground_truth_and_the_area_before_padding_come_along(model, data):
    output = TapReader('student', model).loss(model, **data, taps=['feats'])
    assert output.truth.labels is None
    # the second image is 20 rows and 30 columns smaller
    assert output.area.images == (SIZE, (SIZE[0] - 20, SIZE[1] - 30))
    assert output.area.padded == tuple(data['inputs'].shape[2:])
    for boxes, sample in zip(output.truth.boxes, batch()['data_samples'], strict=True):
        assert torch.equal(boxes, sample.gt_instances.bboxes.tensor)


@pytest.mark.parametrize(
    ('at', 'beyond'),
    [('backbone', ('neck', 'bbox_head')), ('feats', ('bbox_head',)), ('logits', ())],
)
def test_a_frozen_role_runs_no_further_than_its_last_tap(family, model, data, at, beyond):
    seen = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: seen.append(name)) for name, module in model.named_modules()
    ]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    output = TapReader('teacher', model).features(model.eval(), data['inputs'], [at])
    for handle in handles:
        handle.remove()
    assert 'backbone' in seen
    assert not [name for name in seen if name.startswith(beyond)] if beyond else seen.count('bbox_head') == 1
    assert not any('loss' in name for name in seen)
    assert output.losses == {}
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize('normaliser', ['positives', 'mean'])
def test_sigmoid_heads_compare_each_class_by_itself(normaliser):
    model = distillation('retinanet', distillers=[dict(MUTUAL, normaliser=normaliser)], frozen=['teacher'])
    done = model.data_preprocessor(batch(number=1), True)  # one image of 96 x 128: nothing is padded
    loss = model(**done, mode='loss')['student.loss_mutual']
    head, samples = model.roles['student'].bbox_head, done['data_samples']['student']
    with torch.no_grad():
        maps = [role.bbox_head(role.extract_feat(done['inputs'][name]))[0] for name, role in model.roles.items()]
    folded = [[level.unflatten(1, (9, CLASSES))[0] for level in levels] for levels in maps]
    if normaliser == 'mean':
        terms = [binary_kl_divergence(student, teacher) for student, teacher in zip(*folded, strict=True)]
        expected = torch.stack(terms).mean()
    else:  # all priors of all levels together
        anchors = head.get_anchors([level.shape[2:] for level in maps[0]], [samples[0].metainfo], 'cpu')
        positives = head.get_targets(*anchors, [samples[0].gt_instances], [samples[0].metainfo])[-1]
        rows = [torch.cat([level.flatten(2).movedim(1, 2).flatten(0, 1) for level in levels]) for levels in folded]
        expected = focal_binary_divergence(*rows, normalizer=positives)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss > 0


# ---- what cannot work is refused before training --------------------------------------------------------------------


def test_a_head_without_class_maps_says_which_have_them():
    cfg = dict(
        type='YOLOX',
        backbone=dict(type='CSPDarknet', deepen_factor=0.33, widen_factor=0.125),
        neck=dict(type='YOLOXPAFPN', in_channels=[32, 64, 128], out_channels=16, num_csp_blocks=1),
        bbox_head=dict(type='YOLOXHead', num_classes=CLASSES, in_channels=16, feat_channels=16),
    )
    for at in ('logits', 'boxes'):
        with pytest.raises(ConfigError, match=f"'student': YOLOXHead has no tap `{at}`.*RetinaHead, FCOSHead, "):
            distillation(roles=dict(student=cfg, teacher=detector('retinanet')), distillers=[dict(ADM, at=at)])


@pytest.mark.parametrize(
    ('student', 'teacher', 'distiller', 'message'),
    [
        (
            dict(family='retinanet', classes=3), dict(family='retinanet', classes=4), MUTUAL,
            "'student' predicts 3 classes and 'teacher' 4; logits can only be compared between equal class sets",
        ),
        (
            dict(family='retinanet'), dict(family='rtmdet'), ADM,
            r"'student' gives 5 levels, 'feats' of 'teacher' gives 3; .*, such as "
            r"at=dict\(student='feats\[:3\]', teacher='feats\[:3\]'\)",
        ),
        # a softmax over 3 classes and background has as many channels as 4 sigmoids
        (dict(family='softmax', classes=3), dict(family='retinanet', classes=4), MUTUAL, 'one softmax.*a sigmoid each'),
        (
            dict(family='retinanet'), dict(family='fcos'), MUTUAL,
            r'shape \(9, 3, 16, 16\), .* of \'teacher\' has \(1, 3, 16, 16\): they do not correspond',
        ),
        (
            dict(family='retinanet'), dict(family='faster'), TRANSFER,
            "'teacher' is a two-stage detector, whose logits belong to regions.*'student' samples none; tap `feats`",
        ),
    ],
    ids=['classes', 'levels', 'softmax', 'priors', 'two-stage-source'],
)  # fmt: skip
def test_roles_that_do_not_correspond_are_refused(student, teacher, distiller, message):
    roles = dict(student=detector(**{**student, 'family': 'retinanet'}), teacher=detector(**teacher))
    if student['family'] == 'softmax':
        roles['student']['bbox_head']['loss_cls'] = dict(type='CrossEntropyLoss', use_sigmoid=False)
    with pytest.raises(ConfigError, match=message):
        distillation(roles=roles, distillers=[distiller])


def test_a_pairing_of_levels_makes_other_pyramids_comparable():
    at = dict(student='feats[0:3]', teacher='feats')
    roles = dict(student=detector('retinanet'), teacher=detector('rtmdet', 8))
    model = distillation(roles=roles, distillers=[dict(ADM, at=at)])
    losses = model(**model.data_preprocessor(batch(), True), mode='loss')
    assert 0 < losses['student.loss_consensus'] < 2
