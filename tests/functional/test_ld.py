"""LD: the published program's figures, ATSS as mmdet does it, and regions by hand."""

import math
import statistics

import pytest
import torch
from mmdet.models.task_modules.assigners import ATSSAssigner
from mmengine.registry import DefaultScope
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


def priors_and_boxes(seed):
    """240 priors of two levels and 30 boxes."""
    generator = torch.Generator().manual_seed(seed)
    corners = [torch.rand(count, 2, generator=generator) * 60 for count in (180, 60, 30)]
    sizes = [
        least + torch.rand(len(c), 2, generator=generator) * 12 for c, least in zip(corners, (4, 10, 6), strict=True)
    ]
    fine, coarse, boxes = (torch.cat([c, c + s], dim=1) for c, s in zip(corners, sizes, strict=True))
    return torch.cat([fine, coarse]), boxes


@pytest.mark.parametrize('seed', range(4))
def test_positives_are_those_of_the_stock_assigner(seed):
    anchors, boxes = priors_and_boxes(seed)
    with DefaultScope.overwrite_default_scope('mmdet'):
        assigner = ATSSAssigner(topk=9)
    truth = InstanceData(bboxes=boxes, labels=torch.zeros(30, dtype=torch.long))
    stock = assigner.assign(InstanceData(priors=anchors), [180, 60], truth)
    positive, _ = localization_regions(anchors, [180, 60], boxes)
    assert positive.count_nonzero() > 20 and torch.equal(positive, stock.gt_inds)


def test_the_valuable_region_written_out():
    anchors, boxes = priors_and_boxes(0)
    thresholds = []
    for box in boxes.tolist():
        considered = []
        for level in (anchors[:180].tolist(), anchors[180:].tolist()):
            nearest = sorted(level, key=lambda a: sum((a[i] + a[i + 2] - box[i] - box[i + 2]) ** 2 for i in (0, 1)))
            considered += [iou_and_diou(anchor, box)[0] for anchor in nearest[:9]]
        thresholds.append(statistics.mean(considered) + statistics.stdev(considered))
    expected = []
    for anchor in anchors.tolist():
        pairs = [(*iou_and_diou(anchor, box), limit) for box, limit in zip(boxes.tolist(), thresholds, strict=True)]
        expected.append(max((iou for iou, diou, limit in pairs if 0.25 * limit <= diou < limit), default=0.0))
    _, valuable = localization_regions(anchors, [180, 60], boxes)
    torch.testing.assert_close(valuable, torch.tensor(expected))


def iou_and_diou(a, b):
    overlap = math.prod(max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    union = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)) - overlap
    apart = sum(((a[i] + a[i + 2] - b[i] - b[i + 2]) / 2) ** 2 for i in (0, 1))
    diagonal = sum((max(a[i + 2], b[i + 2]) - min(a[i], b[i])) ** 2 for i in (0, 1))
    return overlap / union, overlap / union - apart / diagonal


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
