"""LD: the published figures through a distiller, its regions on a real head, and what it refuses."""

from __future__ import annotations

import pytest
import small_detectors
import torch
from dense_roles import published
from role_outputs import run_roles

from mmadm.distillers import LD
from mmadm.functional import localization_regions
from mmadm.structures import Step
from mmadm.utils.errors import ConfigError

TERMS = ('positives', 'region', 'classification')


def loss_of(found, term):
    return found[f'student.loss_ld_{term}']


def test_all_terms_are_those_of_the_published_program(golden, monkeypatch):
    case = golden('ld_head')
    outputs, facts = published(case)
    distiller = LD()
    assert distiller.bind(facts, ['student']) == {}
    monkeypatch.setattr(distiller, '_valuable', lambda *_: [case.inputs['vlr'].reshape(2, 3, 3)])
    found = distiller(outputs, Step()).losses
    for term, name in zip(TERMS, ('main', 'vlr', 'classification'), strict=True):
        assert loss_of(found, term).item() == pytest.approx(case.expected[f'{name}_loss'], rel=1e-4)
    loss_of(found, 'positives').backward(retain_graph=True)
    assert case.inputs['student_scores'].grad is None  # how sure the student is, is no path to it
    assert case.inputs['student_boxes'].grad.any()


def test_two_terms_can_be_divided_by_the_positives(golden):
    case = golden('ld_head')
    case.params['normalizer'] = 5.0
    outputs, facts = published(case)
    distiller = LD(by_positives=True, region=0.0)
    distiller.bind(facts, ['student'])
    found = distiller(outputs, Step()).losses
    assert loss_of(found, 'positives').item() == pytest.approx(case.expected['main_loss'] / 5, rel=1e-4)
    assert loss_of(found, 'classification').item() == pytest.approx(case.expected['classification_loss'], rel=1e-4)
    assert len(found) == 2


def test_the_region_is_that_of_the_stock_priors_and_of_the_image_alone():
    model = small_detectors.distillation('gfl', frozen=['teacher'], distillers=[dict(type='LD')])
    outputs = run_roles(model, model.data_preprocessor(small_detectors.batch(), True))
    distiller, student = model.distillers['ld'], outputs['student']
    ones = [torch.ones_like(weight) for weight in student.targets().weights]
    found = distiller._valuable(student, ones)
    head = model.roles['student'].bbox_head
    priors = head.prior_generator.grid_priors([tuple(level.shape[1:]) for level in ones], device='cpu')
    for image, boxes in enumerate(student.truth.boxes):
        _, expected = localization_regions(torch.cat(priors), [len(level) for level in priors], boxes)
        assert torch.equal(torch.cat([level[image].flatten() for level in found]), expected) and expected.any()
    (tap,) = (tap for tap in student.taps if tap.base == 'boxes')
    levels = student.taps[tap].levels
    for level in levels:
        level.retain_grad()
    sum(distiller(outputs, Step()).losses.values()).backward()
    assert levels[0].grad.any()
    assert not levels[0].grad[4:, :, -(-76 // 8) :].any()  # the second image has 76 rows


@pytest.mark.parametrize('keep', [0, 1, 2])
def test_without_an_object_nothing_is_taught(keep):
    weights = dict.fromkeys(TERMS, 0.0) | {TERMS[keep]: 1.0}
    model = small_detectors.distillation('gfl', frozen=['teacher'], distillers=[dict(type='LD', **weights)])
    losses = model(**model.data_preprocessor(small_detectors.batch(objects=0), True), mode='loss')
    assert {key: value.item() for key, value in losses.items() if 'ld_' in key} == {f'student.loss_ld_{TERMS[keep]}': 0}


def test_heads_that_do_not_correspond_are_refused():
    with pytest.raises(ConfigError, match=r"LD: role 'student' predicts boxes without distributions .*BCKD or CrossKD"):
        small_detectors.distillation('fcos', distillers=[dict(type='LD')])
    roles = {name: small_detectors.detector('gfl') for name in ('student', 'teacher')}
    roles['teacher']['bbox_head']['reg_max'] = 8
    with pytest.raises(ConfigError, match=r"'student' predicts 17 bins for each side of a box, 'teacher' 9; .*reg_max"):
        small_detectors.distillation(roles=roles, distillers=[dict(type='LD')])
    for options, message in (
        (dict(source='student'), r"LD\.source='student': must differ from learner"),
        (dict(tau=0), r'LD\.tau=0: a temperature must be above 0'),
        (dict(class_tau=-1.0), r'LD\.class_tau=-1\.0'),
    ):
        with pytest.raises(ConfigError, match=message):
            LD(**options)
