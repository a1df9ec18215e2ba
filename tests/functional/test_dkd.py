"""DKD: by hand, published figure, its identity with KD, labels that are no class."""

import math

import pytest
import torch

from mmadm.functional import decoupled_kl, kl_divergence


def random_case(*shape):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(*shape, generator=generator) for _ in range(2))
    return student, teacher, torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_parity_with_the_published_program(golden):
    case = golden('dkd')
    assert decoupled_kl(**case.inputs, **case.params).item() == pytest.approx(case.expected['loss'], rel=1e-4)


def test_by_hand():
    # true class 1. Teacher 0.2, 0.5, 0.3; student uniform.
    teacher, student = torch.tensor([[0.2, 0.5, 0.3]]).log(), torch.zeros(1, 3)
    tckd = divergence([0.5, 0.5], [1 / 3, 2 / 3])
    nckd = divergence([0.4, 0.6], [0.5, 0.5])
    label = torch.tensor([1])
    assert decoupled_kl(student, teacher, label, 1.0, 1.0, 0.0).item() == pytest.approx(tckd, rel=1e-5)
    assert decoupled_kl(student, teacher, label, 1.0, 0.0, 1.0).item() == pytest.approx(nckd, rel=1e-5)
    both = decoupled_kl(student, 2 * teacher, label, tau=2.0, alpha=3.0, beta=5.0)
    assert both.item() == pytest.approx(4 * (3 * tckd + 5 * nckd), rel=1e-5)


def test_kd_is_the_sum_weighted_by_what_the_teacher_gives_the_others():
    student, teacher, labels = random_case(1, 4)
    others = 1 - teacher.softmax(dim=1)[0, labels[0]].item()
    torch.testing.assert_close(
        decoupled_kl(student, teacher, labels, tau=1.0, alpha=1.0, beta=others), kl_divergence(student, teacher)
    )


def test_dense_logits_are_averaged_over_positions_that_count():
    student, teacher, labels = random_case(2, 5, 3, 4)
    mask = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1)) > 0.3
    labels[0, 0] = 255  # the ignore label counts as masked
    labels[1, 2, 1] = -1
    kept = (mask & (labels >= 0) & (labels < 5)).flatten()
    rows = [z.permute(0, 2, 3, 1).reshape(-1, 5)[kept] for z in (student, teacher)]
    student.requires_grad_()
    loss = decoupled_kl(student, teacher, labels, mask=mask)
    torch.testing.assert_close(loss, decoupled_kl(*rows, labels.flatten()[kept]))
    loss.backward()
    assert student.grad.isfinite().all() and student.grad[0, :, 0].abs().max() == 0


def test_two_classes_leave_nothing_among_the_others():
    student, teacher, labels = random_case(3, 2)
    torch.testing.assert_close(
        decoupled_kl(student, teacher, labels, tau=1.0), kl_divergence(student, teacher), rtol=1e-5, atol=1e-6
    )


def test_a_sure_teacher_keeps_the_gradient_finite():
    student = torch.tensor([[-500.0, 500.0, 0.0]], requires_grad=True)
    loss = decoupled_kl(student, torch.tensor([[500.0, -500.0, 0.0]]), torch.tensor([0]), tau=1.0)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_bad_input():
    student, teacher, labels = random_case(2, 3, 4, 4)
    with pytest.raises(ValueError, match='labels'):
        decoupled_kl(student, teacher, labels[:, 0])
    with pytest.raises(ValueError, match='mask'):
        decoupled_kl(student, teacher, labels, mask=torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match='2 classes'):
        decoupled_kl(student[:, :1], teacher[:, :1], labels)
    with pytest.raises(ValueError, match='decoupled_kl: tau'):
        decoupled_kl(student, teacher, labels, tau=0)
