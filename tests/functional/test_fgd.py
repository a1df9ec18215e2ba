"""FGD: the published program's figures, masks of boxes by hand, and the global context."""

import pytest
import torch

from mmadm.functional import (
    fgd_attention,
    fgd_attention_distance,
    fgd_feature_distance,
    fgd_masks,
    generation_distance,
)
from mmadm.modules import GlobalContext

CLOSE = dict(rtol=1e-4, atol=1e-6)


def masks_of(case, size=(5, 6)):
    boxes = [case.inputs['boxes_0'], case.inputs['boxes_1'].reshape(-1, 4)]
    return fgd_masks(boxes, tuple(case.params['image_size'].tolist()), size)


def context(case, side):
    block = GlobalContext(4)
    weights = {k.removeprefix(f'{side}.'): v for k, v in case.inputs.items() if k.startswith(f'{side}.')}
    block.load_state_dict(weights)
    return block


def test_attention_is_that_of_the_published_program(golden):
    case = golden('fgd_attention')
    found = fgd_attention(case.inputs['feature'], case.params['tau'])
    torch.testing.assert_close(found, (case.expected['spatial'], case.expected['channel']), **CLOSE)
    assert found[0].mean().item() == pytest.approx(1) and found[1].mean().item() == pytest.approx(1)


def test_masks_are_those_of_the_published_program(golden):
    case = golden('fgd_masks')
    torch.testing.assert_close(masks_of(case), (case.expected['foreground'], case.expected['background']), **CLOSE)


def test_distances_are_those_of_the_published_program(golden):
    case = golden('fgd_feature_loss')
    maps = case.inputs['student'], case.inputs['teacher']
    found = fgd_feature_distance(*maps, *masks_of(case), case.params['tau'])
    expected = [case.expected['foreground'], case.expected['background']]
    assert [value.item() for value in found] == pytest.approx(expected, rel=1e-4)
    case = golden('fgd_attention_loss')
    found = fgd_attention_distance(case.inputs['student'], case.inputs['teacher'], case.params['tau'])
    assert found.item() == pytest.approx(case.expected['loss'], rel=1e-4)


def test_the_context_is_that_of_the_published_program(golden):
    case = golden('fgd_relation_loss')
    sides = [context(case, side)(case.inputs[side]) for side in ('student', 'teacher')]
    assert generation_distance(*sides).item() == pytest.approx(case.expected['loss'], rel=1e-4)


def test_all_terms_and_their_gradient_are_those_of_the_published_program(golden):
    case = golden('fgd_total')
    student, teacher, tau = case.inputs['student'].requires_grad_(), case.inputs['teacher'], case.params['tau']
    foreground, background = fgd_feature_distance(student, teacher, *masks_of(case), tau)
    terms = {
        'foreground': foreground,
        'background': background,
        'attention': fgd_attention_distance(student, teacher, tau),
        'relation': generation_distance(context(case, 'student')(student), context(case, 'teacher')(teacher)),
    }
    loss = sum(case.params[name] * term for name, term in terms.items())
    loss.backward()
    assert loss.item() == pytest.approx(case.expected['loss'], rel=1e-4)
    torch.testing.assert_close(student.grad, case.expected['student_grad'], **CLOSE)


def test_masks_by_hand():
    # in cells of 8 pixels: columns 1 to 2 (the end of the box is the start of column 2, which is taken), rows 0 to 1
    foreground, background = fgd_masks([torch.tensor([[8.0, 0.0, 16.0, 8.0]])], (16, 32), (2, 4))
    assert foreground[0].tolist() == [[0.0, 0.25, 0.25, 0.0]] * 2
    assert background[0].tolist() == [[0.25, 0.0, 0.0, 0.25]] * 2


def test_of_two_boxes_the_smaller_counts():
    large, small = torch.tensor([0.0, 0.0, 24.0, 8.0]), torch.tensor([8.0, 0.0, 8.0, 8.0])
    foreground, _ = fgd_masks([torch.stack([small, large])], (16, 32), (2, 4))
    assert foreground[0].tolist() == [[0.125, 0.5, 0.125, 0.125], [0.125, 0.5, 0.125, 0.125]]


def test_without_boxes_everything_is_background_and_boxes_everywhere_leave_none():
    none, everywhere = torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 32.0, 16.0]])
    foreground, background = fgd_masks([none, everywhere], (16, 32), (2, 4))
    assert foreground[0].count_nonzero() == 0 and torch.equal(background[0], torch.full((2, 4), 1 / 8))
    # the row and the column beyond the map are counted: 3 * 5
    torch.testing.assert_close(foreground[1], torch.full((2, 4), 1 / 15))
    assert background[1].count_nonzero() == 0


def test_padding_is_neither_foreground_nor_background():
    mask = torch.tensor([[True, True, True, False], [False] * 4])[None]
    foreground, background = fgd_masks([torch.tensor([[8.0, 0.0, 8.0, 8.0]])], (16, 32), (2, 4), mask)
    assert foreground[0].tolist() == [[0.0, 0.5, 0.0, 0.0], [0.0] * 4]
    assert background[0].tolist() == [[0.5, 0.0, 0.5, 0.0], [0.0] * 4]


def test_the_context_starts_as_the_identity_and_learns_by_its_last_layer():
    block, feature = GlobalContext(6), torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(feature), feature)
    generation_distance(block(feature), 2 * feature).backward()
    moved = {name for name, p in block.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == {'expand.weight', 'expand.bias'}


def test_bad_input():
    feature = torch.zeros(1, 2, 3, 3)
    with pytest.raises(ValueError, match='fgd_attention: expected a map'):
        fgd_attention(torch.zeros(2, 3))
    with pytest.raises(ValueError, match='fgd_feature_distance: mask'):
        fgd_feature_distance(feature, feature, torch.zeros(1, 2, 2), torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match='fgd_attention: tau'):
        fgd_attention_distance(feature, feature, tau=0)
