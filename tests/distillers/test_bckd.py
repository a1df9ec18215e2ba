"""BCKD: the published figures through a distiller, what it needs, and what it refuses."""

from __future__ import annotations

import pytest
import small_detectors
import small_segmentors
import torch
from dense_roles import published
from role_outputs import run_roles

from mmadm.distillers import BCKD
from mmadm.structures import Step
from mmadm.utils.errors import ConfigError

FAMILIES = ('retinanet', 'fcos', 'fcos_norm', 'atss', 'gfl')


def losses_of(model, seed=0):
    found = model(**model.data_preprocessor(small_detectors.batch(seed=seed), True), mode='loss')
    return {key: value for key, value in found.items() if 'bckd' in key}


def test_both_terms_are_those_of_the_published_program(golden):
    case = golden('bckd_head')
    outputs, facts = published(case)
    distiller = BCKD(boxes=case.params['box_weight'])
    assert distiller.bind(facts, ['student']) == {}
    found = distiller(outputs, Step()).losses
    assert found['student.loss_bckd_cls'].item() == pytest.approx(case.expected['classification_loss'], rel=1e-4)
    assert found['student.loss_bckd_boxes'].item() == pytest.approx(case.expected['box_loss'], rel=1e-4)
    found['student.loss_bckd_boxes'].backward()
    torch.testing.assert_close(
        case.inputs['student_boxes'].grad, case.expected['student_boxes_grad'], rtol=1e-4, atol=1e-6
    )
    assert case.inputs['student_scores'].grad is None  # how much scores differ is no path to the student


@pytest.mark.parametrize('family', FAMILIES)
def test_a_teacher_of_equal_weights_teaches_nothing(family):
    roles = {name: small_detectors.detector(family) for name in ('student', 'teacher')}
    model = small_detectors.distillation(roles=roles, frozen=['teacher'], distillers=[dict(type='BCKD')])
    model.roles['teacher'].load_state_dict(model.roles['student'].state_dict())
    model.roles['student'].eval()  # its batch normalisation
    assert [value.item() for value in losses_of(model).values()] == pytest.approx([0, 0], abs=1e-3)


@pytest.mark.parametrize('family', FAMILIES)
def test_boxes_are_those_that_the_head_predicts(family):
    model = small_detectors.distillation(family, frozen=['teacher'], distillers=[dict(type='BCKD')])
    done = model.data_preprocessor(small_detectors.batch(number=1), True)
    output = run_roles(model, done)['teacher']
    (boxes,) = (tap for tap in output.taps if tap.base == 'boxes')
    found = model.distillers['bckd']._heads['teacher'].decode(output.taps[boxes].levels)
    role = model.roles['teacher']
    head = role.bbox_head
    head.test_cfg.update(score_thr=-1.0, nms_pre=-1)
    with torch.no_grad():
        predicted = head(role.extract_feat(done['inputs']['teacher']))
        meta = dict(img_shape=(10**6, 10**6), scale_factor=(1.0, 1.0))
        stock = head.predict_by_feat(*predicted, batch_img_metas=[meta], rescale=False, with_nms=False)[0].bboxes
    rows = torch.cat([level.unflatten(0, (1, -1)).permute(0, 3, 4, 1, 2).reshape(-1, 4) for level in found]).clamp(
        min=0
    )
    # stock lists a box for each class, clips it to the image and leaves out what has no area
    rows = rows.clamp(min=0)
    rows = rows[(rows[:, 2:] > rows[:, :2]).all(dim=1)]
    assert len(rows) > 100 and torch.cdist(rows, stock, p=torch.inf).amin(dim=1).max() < 1e-3


def test_what_is_ignored_or_no_image_counts_for_nothing():
    model = small_detectors.distillation('retinanet', frozen=['teacher'], distillers=[dict(type='BCKD')])
    outputs = run_roles(model, model.data_preprocessor(small_detectors.batch(), True))
    student = outputs['student']
    (tap,) = (tap for tap in student.taps if tap.base == 'logits')
    levels = student.taps[tap].levels
    for level in levels:
        level.retain_grad()
    sum(model.distillers['bckd'](outputs, Step()).losses.values()).backward()
    weights = student.targets().weights
    assert any((weight == 0).any() for weight in weights)
    for level, weight in zip(levels, weights, strict=True):
        assert not level.grad.movedim(1, -1)[weight == 0].any()
    assert not levels[0].grad[9:, :, -(-76 // 8) :].any()  # the second image has 76 rows
    assert levels[0].grad.any()


@pytest.mark.parametrize(('weights', 'keys'), [((1.0, 0.0), {'cls'}), ((0.0, 1.0), {'boxes'}), ((0.0, 0.0), set())])
def test_only_what_has_a_weight_is_computed(weights, keys):
    bckd = dict(type='BCKD', classification=weights[0], boxes=weights[1])
    model = small_detectors.distillation('fcos', frozen=['teacher'], distillers=[bckd])
    assert set(losses_of(model)) == {f'student.loss_bckd_{key}' for key in keys}


def test_teachers_of_other_kinds_and_segmentors_are_refused():
    softmax = small_detectors.detector('retinanet')
    softmax['bbox_head']['loss_cls'] = dict(type='CrossEntropyLoss', use_sigmoid=False)
    other = small_detectors.detector('vfnet')
    for roles, message in (
        (dict(student=softmax, teacher=softmax), r"BCKD: role 'student' is class scores \(one softmax\)"),
        (
            dict(student=other, teacher=other),
            "'student' is another kind of network or head",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            small_detectors.distillation(roles=roles, distillers=[dict(type='BCKD')])
    with pytest.raises(ConfigError, match=r"role 'student': a segmentor has no tap `boxes`"):
        small_segmentors.distillation(distillers=[dict(type='BCKD')])
    with pytest.raises(ConfigError, match=r"BCKD\.source='student': must differ from learner"):
        BCKD(source='student')
