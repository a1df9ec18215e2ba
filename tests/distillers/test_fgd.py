"""FGD: the published figures, where the masks lie, what it makes, and what it refuses."""

from __future__ import annotations

import pytest
import small_detectors
import small_segmentors
import torch
from role_outputs import as_facts, logged, role_outputs, run_roles

from mmadm.distillers import FGD
from mmadm.functional import fgd_masks
from mmadm.structures import BatchArea, GroundTruth, Step
from mmadm.utils.errors import ConfigError

TERMS = ('foreground', 'background', 'attention', 'relation')


def bound(distiller, outputs):
    """The step with the connectors that a distiller asks for."""
    found = distiller.bind(as_facts(outputs), ['student'])
    return Step(connectors={key: module for key, (_, module) in found.items()})


def test_all_terms_and_their_gradient_are_those_of_the_published_program(golden):
    case = golden('fgd_total')
    size = tuple(case.params['image_size'].int().tolist())
    boxes = [case.inputs[f'boxes_{image}'].reshape(-1, 4) for image in range(2)]
    student = case.inputs['student'].requires_grad_()
    taps = dict(student=dict(feats=[student]), teacher=dict(feats=[case.inputs['teacher']]))
    outputs = role_outputs(taps, GroundTruth(boxes=boxes), BatchArea(size, (size, size)))
    distiller = FGD(tau=case.params['tau'], **{name: case.params[name] for name in TERMS})
    step = bound(distiller, outputs)
    for key, side in (('feats_context', 'student'), ('feats_source_context', 'teacher')):
        own = {k.removeprefix(f'{side}.'): v for k, v in case.inputs.items() if k.startswith(f'{side}.')}
        step.connectors[key].load_state_dict(own)
    loss = sum(distiller(outputs, step).losses.values())
    loss.backward()
    assert loss.item() == pytest.approx(case.expected['loss'], rel=1e-4)
    torch.testing.assert_close(student.grad, case.expected['student_grad'], rtol=1e-4, atol=1e-6)


def test_boxes_lie_on_the_objects_of_a_padded_batch():
    """The published program stretches the boxes of a small image over the whole padded map."""
    model = small_detectors.distillation('retinanet', frozen=['teacher'], distillers=[dict(type='FGD')])
    outputs = run_roles(model, model.data_preprocessor(small_detectors.batch(), True))
    student, seen = outputs['student'], []
    (tap,) = student.taps
    weights = dict(foreground=1.0, background=0.0, attention=0.0, relation=0.0)
    distiller = FGD(**weights)
    levels = student.taps[tap].levels
    step = bound(distiller, outputs)
    for level in levels:
        level.retain_grad()
    distiller(outputs, step).losses['student.loss_fgd_foreground'].backward()
    for level, stride in zip(levels[:2], (8, 16), strict=False):
        for image, boxes in enumerate(student.truth.boxes):
            moved = level.grad[image].abs().sum(dim=0) > 0
            expected = torch.zeros_like(moved)
            for x1, y1, x2, y2 in (boxes / stride).tolist():
                expected[int(y1) : -int(-y2 // 1) + 1, int(x1) : -int(-x2 // 1) + 1] = True
            rows, columns = (-(-side // stride) for side in student.area.images[image])
            expected[rows:], expected[:, columns:] = False, False
            assert torch.equal(moved, expected)
            seen.append(int(moved.sum()))
    assert all(seen)


def test_boxes_follow_the_source_to_another_size():
    """The teacher's images have half the side; boxes are the learner's."""
    boxes = [torch.tensor([[16.0, 0.0, 31.0, 15.0]])]
    taps = dict(student=dict(feats=[torch.rand(1, 2, 4, 4)]), teacher=dict(feats=[torch.rand(1, 2, 2, 2)]))
    outputs = role_outputs(taps, GroundTruth(boxes=boxes), BatchArea((32, 32), ((32, 32),)))
    other = role_outputs(dict(teacher=taps['teacher']), None, BatchArea((16, 16), ((16, 16),)))
    distiller = FGD(foreground=1.0, background=0.0, attention=0.0, relation=0.0)
    outputs |= other
    outputs['student'].taps[next(iter(outputs['student'].taps))].levels[0].requires_grad_()
    distiller.bind(as_facts(outputs), ['student'])
    distiller(outputs, Step()).losses['student.loss_fgd_foreground'].backward()
    foreground, _ = fgd_masks(boxes, (32, 32), (2, 2))
    grad = taps['student']['feats'][0].grad[0].abs().sum(dim=0)
    pooled = torch.nn.functional.max_pool2d(grad[None], 2)[0] > 0
    assert torch.equal(pooled, foreground[0] > 0) and not pooled.all()


def test_terms_are_summed_over_levels_and_only_those_with_a_weight_are_computed():
    generator = torch.Generator().manual_seed(0)
    maps = {r: [torch.randn(1, 2, s, s, generator=generator) for s in (4, 2)] for r in ('student', 'teacher')}
    truth, area = GroundTruth(boxes=[torch.tensor([[0.0, 0.0, 9.0, 9.0]])]), BatchArea((32, 32), ((32, 32),))

    def losses(keep, **weights):
        options = dict.fromkeys(TERMS, 0.0) | weights
        outputs = role_outputs({role: dict(feats=keep(levels)) for role, levels in maps.items()}, truth, area)
        distiller = FGD(**options)
        step = bound(distiller, outputs)
        assert bool(step.connectors) == bool(options['relation'])
        return logged(distiller(outputs, step))

    both = losses(lambda levels: levels, attention=2.0, background=1.0)
    assert set(both) == {'student.loss_fgd_attention', 'student.loss_fgd_background'}
    parts = [losses(lambda levels, i=i: levels[i : i + 1], attention=1.0, background=1.0) for i in range(2)]
    for key, factor in (('student.loss_fgd_attention', 2), ('student.loss_fgd_background', 1)):
        torch.testing.assert_close(both[key], factor * sum(part[key] for part in parts))
    start = losses(lambda levels: levels, relation=1.0)['student.loss_fgd_relation']
    torch.testing.assert_close(start, sum((a - b).square().sum() for a, b in zip(*maps.values(), strict=True)))


def test_blocks_of_both_sides_learn_with_the_student_and_stay_out_of_its_file():
    roles = dict(student=small_detectors.detector('retinanet'), teacher=small_detectors.detector('retinanet'))
    roles['teacher']['neck']['out_channels'] = roles['teacher']['bbox_head']['in_channels'] = 16
    model = small_detectors.distillation(roles=roles, frozen=['teacher'], distillers=[dict(type='FGD')])
    assert set(model.connectors['fgd']) == {
        f'feats_{level}{part}' for level in range(5) for part in ('', '_context', '_source_context')
    }
    assert model.connectors['fgd']['feats_0'].bias.shape == (16,)
    assert model.owners == ('student',) and len(model.owned_by('student').connectors) == 15
    assert all(part.requires_grad for part in model.connectors.parameters())
    assert not [key for key in model.roles['student'].state_dict() if 'context' in key]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(at='logits'), "FGD.at: tap 'logits' of 'student' gives class scores .*no feature maps"),
        (dict(source='student'), "FGD.source='student': must differ from learner"),
        (dict(tau=0), 'FGD.tau=0: a temperature must be above 0'),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        small_detectors.distillation('retinanet', distillers=[dict(type='FGD', **options)])


def test_a_segmentor_has_no_boxes():
    with pytest.raises(
        ConfigError, match=r"FGD.learner='student': weighs features by ground-truth boxes, which .* none"
    ):
        small_segmentors.distillation(distillers=[dict(type='FGD', at='backbone.layer4')])


def test_off_is_off():
    weights = dict.fromkeys(TERMS, 0.0)
    model = small_detectors.distillation('retinanet', frozen=['teacher'], distillers=[dict(type='FGD', **weights)])
    losses = model(**model.data_preprocessor(small_detectors.batch(), True), mode='loss')
    assert not any('fgd' in key for key in losses)
