"""KL divergence: by hand, against the published program's figures, and its mask."""

import math

import pytest
import torch

from mmadm.functional import kl_divergence


def test_by_hand():
    # p_t = (0.75, 0.25), p_s = (0.5, 0.5)
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert kl_divergence(student, teacher).item() == pytest.approx(expected, rel=1e-6)
    # at tau = 2 the teacher's odds are sqrt(3) : 1, and the loss is multiplied by 4
    p = math.sqrt(3) / (1 + math.sqrt(3))
    softened = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    assert kl_divergence(student, teacher, tau=2).item() == pytest.approx(4 * softened, rel=1e-5)


def test_parity_with_the_published_program(golden):
    case = golden('kl_logits')
    found = kl_divergence(case.inputs['student'], case.inputs['teacher'], tau=case.params['tau'])
    assert found.item() == pytest.approx(case.expected['loss'], rel=1e-4)


def test_dense_logits_are_averaged_over_positions():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    as_vectors = kl_divergence(student.permute(0, 2, 3, 1).reshape(-1, 5), teacher.permute(0, 2, 3, 1).reshape(-1, 5))
    torch.testing.assert_close(kl_divergence(student, teacher), as_vectors)


def test_masked_positions_count_neither_above_nor_below_the_line():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 3, 4, requires_grad=True), torch.randn(2, 5, 3, 4)
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[:, :, :2] = True
    torch.testing.assert_close(
        kl_divergence(student, teacher, mask=mask), kl_divergence(student[..., :2], teacher[..., :2])
    )
    (gradient,) = torch.autograd.grad(kl_divergence(student, teacher, mask=mask), student)
    assert gradient[..., 2:].abs().max() == 0 and gradient[..., :2].abs().min() > 0


def test_no_valid_position_gives_zero():
    student = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = kl_divergence(student, torch.randn(1, 3, 2, 2), mask=torch.zeros(1, 2, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and student.grad.abs().max() == 0


def test_bad_input():
    with pytest.raises(ValueError, match='must match'):
        kl_divergence(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match='tau'):
        kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3), tau=0)
    with pytest.raises(ValueError, match='mask'):
        kl_divergence(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), mask=torch.ones(2, 3))
