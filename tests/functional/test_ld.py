"""LD: the published program's figures, ATSS as mmdet does it, and regions by hand."""

import math

import pytest
import torch
from mmdet.models.task_modules.assigners import ATSSAssigner
from mmengine.structures import InstanceData

from mmadm.functional import distribution_divergence, expected_distances, localization_regions

CLOSE = dict(rtol=1e-4, atol=1e-6)


def rows(maps, channels):
    return maps.permute(0, 2, 3, 1).reshape(-1, channels)


def test_distributions_are_compared_as_by_the_published_program(golden):
    case = golden('ld_kl')
    student = case.inputs['student'].requires_grad_()
    loss = case.params['weight'] * distribution_divergence(
        student, case.inputs['teacher'], case.inputs['weights'], case.params['tau'],
        normalizer=case.params['normalizer'],
    )  # fmt: skip
    loss.backward()
    assert loss.item() == pytest.approx(case.expected['loss'], rel=1e-4)
    torch.testing.assert_close(student.grad, case.expected['student_grad'], **CLOSE)


def test_regions_are_those_of_the_published_program_with_the_papers_diou(golden):
    case = golden('ld_vlr_region')
    params = {**case.params, 'anchors_per_level': case.params['anchors_per_level'].tolist()}
    positive, valuable = localization_regions(case.inputs['anchors'], boxes=case.inputs['boxes'], **params)
    assert torch.equal(positive, case.expected['positive'].long())
    torch.testing.assert_close(valuable, case.expected['vlr'], **CLOSE)


def test_a_level_is_that_of_the_published_program(golden):
    case = golden('ld_head')
    boxes = [rows(case.inputs[f'{side}_boxes'], 16).reshape(-1, 4) for side in ('student', 'teacher')]
    scores = [rows(case.inputs[f'{side}_scores'], 3) for side in ('student', 'teacher')]
    positive = case.inputs['labels'].flatten() < 3
    certain = scores[0].sigmoid().amax(dim=1) * positive
    tau = case.params['tau']
    main = distribution_divergence(*boxes, certain.repeat_interleave(4), tau, normalizer=4)
    assert case.params['main_weight'] * main.item() == pytest.approx(case.expected['main_loss'], rel=1e-4)
    valuable = distribution_divergence(*boxes, case.inputs['vlr'].flatten().repeat_interleave(4), tau, normalizer=16)
    assert case.params['vlr_weight'] * valuable.item() == pytest.approx(case.expected['vlr_loss'], rel=1e-4)
    of_classes = distribution_divergence(
        *scores, positive.float(), case.params['classification_tau'], normalizer=positive.sum()
    )
    assert case.params['classification_weight'] * of_classes.item() == pytest.approx(
        case.expected['classification_loss'], rel=1e-4
    )


def test_positives_are_those_of_the_stock_assigner():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(80, 2, generator=generator) * 60
    anchors = torch.cat([corners, corners + 4 + torch.rand(80, 2, generator=generator) * 20], dim=1)
    corners = torch.rand(6, 2, generator=generator) * 50
    boxes = torch.cat([corners, corners + 8 + torch.rand(6, 2, generator=generator) * 16], dim=1)
    stock = ATSSAssigner(topk=5).assign(
        InstanceData(priors=anchors), [60, 20], InstanceData(bboxes=boxes, labels=torch.zeros(6, dtype=torch.long))
    )
    positive, _ = localization_regions(anchors, [60, 20], boxes, topk=5)
    assert positive.count_nonzero() > 3 and torch.equal(positive, stock.gt_inds)


def test_an_image_without_boxes_has_no_region():
    positive, valuable = localization_regions(torch.rand(5, 4), [5], torch.zeros(0, 4))
    assert positive.tolist() == [0] * 5 and valuable.tolist() == [0.0] * 5


def test_by_hand():
    # (0.75, 0.25) against (0.5, 0.5): the mean over the two bins is half of the sum
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert distribution_divergence(student, teacher, tau=1, bins='sum').item() == pytest.approx(divergence, rel=1e-5)
    assert distribution_divergence(student, teacher, tau=1).item() == pytest.approx(divergence / 2, rel=1e-5)
    assert distribution_divergence(student, 2 * teacher, tau=2, bins='sum', normalizer=5).item() == pytest.approx(
        4 * divergence / 5, rel=1e-5
    )
    # 0 and 1 with (0.25, 0.75); three sides certain of bin 0
    logits = torch.tensor([[0.0, math.log(3.0), 99.0, 0.0, 99.0, 0.0, 99.0, 0.0]])
    torch.testing.assert_close(expected_distances(logits), torch.tensor([[0.75, 0.0, 0.0, 0.0]]))


def test_bad_input():
    with pytest.raises(ValueError, match="found 'median'"):
        distribution_divergence(torch.zeros(1, 2), torch.zeros(1, 2), bins='median')
    with pytest.raises(ValueError, match='distribution_divergence: tau'):
        distribution_divergence(torch.zeros(1, 2), torch.zeros(1, 2), tau=0)
