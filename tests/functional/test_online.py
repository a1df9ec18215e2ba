"""FFSD's, SOKD's, KDCL's and SwitOKD's mathematics against the published programs and by hand."""

import pytest
import torch
import torch.nn.functional as F

from mmadm.functional import (
    attention_distance,
    attention_diversity,
    diversity_target,
    kl_divergence,
    switch_threshold,
    warmup_ramp,
)
from mmadm.functional.kdcl import minimum_ensemble, naive_ensemble
from mmadm.functional.switokd import switch_distances


def test_ffsd_matches_the_published_program(golden):
    case = golden('ffsd_attention_loss')
    torch.testing.assert_close(attention_distance(**case.inputs).item(), case.expected['loss'], rtol=1e-4, atol=0)
    case = golden('ffsd_diversity_loss')
    torch.testing.assert_close(attention_diversity(**case.inputs).item(), case.expected['loss'], rtol=1e-4, atol=0)
    case = golden('ffsd_diversity_target')
    torch.testing.assert_close(diversity_target(case.inputs['y']), case.expected['target'], rtol=1e-4, atol=1e-4)
    case = golden('ffsd_warmup')
    for name, value in case.expected.items():
        assert warmup_ramp(10.0, int(name.removeprefix('epoch')), 5) == pytest.approx(value, rel=1e-4)


def test_diversity_turns_attention_away_from_where_it_was_high():
    feature = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).reshape(1, 1, 2, 3)
    moved = (diversity_target(feature) - feature).flatten()
    assert moved[0] == 0 and (moved[2:] > 0).all() and (moved[2:].diff() < 0).all()


def test_sokd_matches_the_published_program(golden):
    case = golden('sokd_soft_target')
    found = kl_divergence(case.inputs['student'], case.inputs['teacher'], case.params['tau'])
    torch.testing.assert_close(found.item(), case.expected['loss'], rtol=1e-4, atol=0)


def test_switokd_matches_the_published_program(golden):
    case = golden('switokd_threshold')
    found = switch_threshold(case.inputs['student'], case.inputs['teacher'], case.inputs['labels'].long())
    for name in ('gap', 'epsilon', 'delta'):
        torch.testing.assert_close(getattr(found, name).item(), case.expected[name], rtol=1e-4, atol=0)
    assert found.expert.item() is bool(case.expected['expert_mode'])


def test_distances_by_hand_on_valid_positions_only():
    student, teacher = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    teacher[0, 0, 0, 0] = torch.log(torch.tensor(3.0))  # softmax (3/4, 1/4)
    labels, mask = torch.tensor([[[0, 255]]]), torch.tensor([[[True, False]]])
    gap, s, t = switch_distances(student, teacher, labels, mask=mask)
    assert [gap.item(), s.item(), t.item()] == pytest.approx([0.5, 1.0, 0.5])
    binary = switch_distances(
        student, teacher, torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 2), mask=mask
    )
    assert [value.item() for value in binary] == pytest.approx([0.25, 1.0, 0.75])


def test_naive_takes_the_better_role_at_each_position():
    a = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).T.reshape(1, 2, 2)  # logits (2, 0) and (0, 1)
    b = torch.tensor([[0.0, 3.0], [0.0, 5.0]]).T.reshape(1, 2, 2)
    chosen = naive_ensemble([a, b], torch.tensor([[0, 1]]))
    assert torch.equal(chosen[0, :, 0], a[0, :, 0]) and torch.equal(chosen[0, :, 1], b[0, :, 1])
    assert torch.isfinite(naive_ensemble([a, b], torch.tensor([[255, 1]]))).all()


def test_certain_targets_choose_as_probabilities_of_0_and_1_do():
    generator = torch.Generator().manual_seed(0)
    logits = [3 * torch.randn(2, 4, 5, 5, generator=generator) for _ in range(3)]
    truth = torch.rand(2, 4, 5, 5, generator=generator) > 0.5
    chosen = naive_ensemble(logits, truth)
    assert torch.equal(chosen, naive_ensemble(logits, truth.float()))
    assert not torch.equal(chosen, naive_ensemble(logits, ~truth))


def test_minimum_is_taken_after_the_true_class_is_subtracted():
    a, b = torch.tensor([[1.0, 4.0, 0.0]]), torch.tensor([[3.0, 5.0, 4.0]])
    assert minimum_ensemble([a, b], torch.tensor([0])).tolist() == [[0.0, 2.0, -1.0]]


def test_sigmoid_heads_follow_the_two_class_form():
    a, b = torch.tensor([[[-1.0]], [[2.0]]]), torch.tensor([[[0.5]], [[1.0]]])
    truth = torch.tensor([[[True]], [[False]]])
    assert naive_ensemble([a, b], truth).flatten().tolist() == [0.5, 1.0]
    two_class = [torch.cat([torch.zeros_like(z), z], dim=1).squeeze(-1) for z in (a, b)]
    joint = minimum_ensemble(two_class, truth.flatten().long())
    expected = (joint[:, 1] - joint[:, 0]).sigmoid()
    assert minimum_ensemble([a, b], truth).flatten().sigmoid().tolist() == pytest.approx(expected.tolist())
    assert F.cross_entropy(joint, truth.flatten().long()).item() >= 0
