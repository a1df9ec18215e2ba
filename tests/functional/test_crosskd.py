"""CrossKD and BCKD: the published programs' figures on scores, boxes and statistics."""

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder

from mmadm.functional import (
    align_statistics,
    box_distance,
    distribution_divergence,
    expected_distances,
    focal_binary_divergence,
)

CLOSE = dict(rtol=1e-4, atol=1e-6)


def rows(maps, channels):
    """Rows (N * h * w * A, channels) of maps (N, A * channels, h, w)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, channels)


def test_statistics_are_aligned_as_by_the_published_program(golden):
    case = golden('crosskd_align')
    torch.testing.assert_close(align_statistics(**case.inputs), case.expected['aligned'], **CLOSE)


@pytest.mark.parametrize('name', ['crosskd_classification', 'bckd_classification'])
def test_scores_are_compared_as_by_the_published_program(golden, name):
    case = golden(name)
    student = case.inputs['student'].requires_grad_()
    options = case.params['beta'], case.params['normalizer']
    loss = case.params['weight'] * focal_binary_divergence(
        student, case.inputs['teacher'], case.inputs['weights'], *options
    )
    loss.backward()
    assert loss.item() == pytest.approx(case.expected['loss'], rel=1e-4)
    torch.testing.assert_close(student.grad, case.expected['student_grad'], **CLOSE)


def scores_of(case, classes, ours='cross'):
    own, teacher = (rows(case.inputs[f'{side}_scores'], classes) for side in (ours, 'teacher'))
    return own, teacher, case.inputs['label_weights'].flatten() if 'label_weights' in case.inputs else None


def confidence(teacher, weights):
    return teacher.sigmoid().amax(dim=1) * (weights > 0)


def test_crosskd_on_distributions_is_that_of_the_published_program(golden):
    case = golden('crosskd_gfl')
    cross, teacher, weights = scores_of(case, 3)
    found = focal_binary_divergence(cross, teacher, weights, normalizer=case.params['normalizer'])
    assert found.item() == pytest.approx(case.expected['classification_loss'], rel=1e-4)
    certain = confidence(teacher, weights)
    assert certain.sum().item() == pytest.approx(case.expected['box_weights_sum'], rel=1e-4)
    sides = [rows(case.inputs[f'{side}_boxes'], 16).reshape(-1, 4) for side in ('cross', 'teacher')]
    found = distribution_divergence(*sides, certain.repeat_interleave(4), case.params['tau'], 'sum', 4 * certain.sum())
    assert case.params['box_weight'] * found.item() == pytest.approx(case.expected['box_loss'], rel=1e-4)


@pytest.mark.parametrize(('name', 'priors'), [('crosskd_retinanet', 2), ('crosskd_atss', 1)])
def test_crosskd_on_anchors_is_that_of_the_published_program(golden, name, priors):
    case = golden(name)
    cross, teacher, weights = scores_of(case, 3)
    total = case.params['normalizer']
    found = focal_binary_divergence(cross, teacher, weights, normalizer=total)
    assert found.item() == pytest.approx(case.expected['classification_loss'], rel=1e-4)
    coder = DeltaXYWHBBoxCoder(target_stds=case.params['target_stds'].tolist())
    deltas = case.inputs['cross_boxes'].requires_grad_()
    anchors = case.inputs['anchors'].repeat(len(deltas), 1)
    boxes = [coder.decode(anchors, rows(maps, 4)) for maps in (deltas, case.inputs['teacher_boxes'])]
    loss = box_distance(*boxes, confidence(teacher, weights), normalizer=total)
    loss.backward()
    assert loss.item() == pytest.approx(case.expected['box_loss'], rel=1e-4)
    torch.testing.assert_close(deltas.grad, case.expected['cross_boxes_grad'], **CLOSE)
    if name == 'crosskd_atss':
        own, other = (rows(case.inputs[f'{side}_centerness'], 1)[:, 0] for side in ('cross', 'teacher'))
        positive = case.inputs['labels'].flatten() < 3
        found = F.binary_cross_entropy_with_logits(own[positive], other[positive].sigmoid(), reduction='sum') / total
        assert found.item() == pytest.approx(case.expected['centerness_loss'], rel=1e-4)


def test_crosskd_on_points_is_that_of_the_published_program(golden):
    case = golden('crosskd_fcos')
    total = case.params['normalizer']
    of_scores, of_boxes = 0.0, 0.0
    for level, stride in enumerate(case.params['strides'].tolist()):
        images, _, height, width = case.inputs[f'cross_boxes_{level}'].shape
        cross, teacher = (rows(case.inputs[f'{side}_scores_{level}'], 3) for side in ('cross', 'teacher'))
        of_scores += focal_binary_divergence(cross, teacher, normalizer=total)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
        points = stride * (torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5).repeat(images, 1)
        boxes = []
        for side in ('cross', 'teacher'):
            distances = rows(case.inputs[f'{side}_boxes_{level}'], 4)
            boxes.append(torch.cat([points - distances[:, :2], points + distances[:, 2:]], dim=1))
        of_boxes += box_distance(*boxes, teacher.sigmoid().amax(dim=1), 'log_iou', total)
    assert case.params['classification_weight'] * of_scores.item() == pytest.approx(
        case.expected['classification_loss'], rel=1e-4
    )
    assert case.params['box_weight'] * of_boxes.item() == pytest.approx(case.expected['box_loss'], rel=1e-4)


def test_bckd_is_that_of_the_published_program(golden):
    case = golden('bckd_head')
    total = case.params['normalizer']
    own, teacher, weights = scores_of(case, 3, 'student')
    found = focal_binary_divergence(own, teacher, weights, normalizer=total)
    assert found.item() == pytest.approx(case.expected['classification_loss'], rel=1e-4)
    logits = case.inputs['student_boxes'].requires_grad_()
    centres = case.inputs['centers'].repeat(2, 1) / case.params['stride']
    boxes = []
    for maps in (logits, case.inputs['teacher_boxes']):
        distances = expected_distances(rows(maps, 16))
        boxes.append(torch.cat([centres - distances[:, :2], centres + distances[:, 2:]], dim=1))
    disagreement = (own.sigmoid() - teacher.sigmoid()).abs().amax(dim=1) * weights
    loss = case.params['box_weight'] * box_distance(*boxes, disagreement, normalizer=total)
    loss.backward()
    assert loss.item() == pytest.approx(case.expected['box_loss'], rel=1e-4)
    torch.testing.assert_close(logits.grad, case.expected['student_boxes_grad'], **CLOSE)


def test_equal_scores_and_scores_of_the_background_count_nothing():
    scores = torch.tensor([[2.0, -1.0], [-30.0, -30.0]])
    assert focal_binary_divergence(scores, scores).item() == 0
    background = torch.tensor([[-30.0, -25.0]])
    assert focal_binary_divergence(background, background - 5).item() < 1e-9


def test_maps_give_what_their_rows_do():
    student, teacher = (torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    weights = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(2))
    of_rows = [rows(x, 3) for x in (student, teacher)]
    for function in (focal_binary_divergence, distribution_divergence):
        torch.testing.assert_close(function(student, teacher, weights), function(*of_rows, weights.flatten()))
        assert not torch.allclose(function(student, teacher, weights), function(student, teacher))


def test_beta_sharpens_the_factor():
    student, teacher = torch.tensor([[0.0]]), torch.tensor([[1.0986123]])  # 0.5 against 0.75
    entropy = 0.6931472
    assert focal_binary_divergence(student, teacher).item() == pytest.approx(0.25 * entropy, rel=1e-5)
    assert focal_binary_divergence(student, teacher, beta=2.0, normalizer=0.5).item() == pytest.approx(
        0.0625 * entropy * 2, rel=1e-5
    )


def test_aligned_features_have_the_teachers_statistics():
    student, teacher = (torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    aligned = align_statistics(5 * student - 7, 3 * teacher + 2)
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(statistic(aligned, dim=(0, 2, 3)), statistic(3 * teacher + 2, dim=(0, 2, 3)))


def test_constant_channels_keep_gradients_finite():
    student = torch.ones(2, 3, 4, 5, requires_grad=True)
    align_statistics(student, torch.randn(2, 3, 4, 5)).sum().backward()
    assert student.grad.isfinite().all()
    assert align_statistics(torch.ones(1, 2), torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


def test_boxes_by_hand():
    # overlap 1, union 7, both in a square of 9
    student, teacher = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 1.0, 3.0, 3.0]])
    assert box_distance(student, teacher).item() == pytest.approx(1 - (1 / 7 - 2 / 9))
    assert box_distance(student, teacher, kind='log_iou', normalizer=2).item() == pytest.approx(0.9729551)
    weights = torch.tensor([3.0])
    assert box_distance(student, teacher, weights).item() == pytest.approx(3 * (1 - (1 / 7 - 2 / 9)))
    # boxes apart have no overlap, but a gradient of GIoU towards each other
    apart = torch.tensor([[10.0, 10.0, 12.0, 12.0]], requires_grad=True)
    assert box_distance(apart, teacher, kind='log_iou').item() == pytest.approx(13.815511)
    assert box_distance(teacher, torch.tensor([[1.0, 1.0, 3.0, 1.0]]), kind='log_iou').item() == 0
    box_distance(apart, teacher).backward()
    assert (apart.grad > 0).any()
    with pytest.raises(ValueError, match="found 'diou'"):
        box_distance(student, teacher, kind='diou')
