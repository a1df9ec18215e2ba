"""KL divergence of a softmax and of sigmoids: by hand, against the published program's figures, and its mask."""

import math

import pytest
import torch

from mmadm.functional import binary_kl_divergence, kl_divergence


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


def test_sigmoids_by_hand():
    # class 0: 0.75 against 0.5; class 1: 0.2 against 0.5
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3.0), -math.log(4.0)]])
    first = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    second = 0.2 * math.log(0.2 / 0.5) + 0.8 * math.log(0.8 / 0.5)
    assert binary_kl_divergence(student, teacher).item() == pytest.approx(first + second, rel=1e-5)
    # logits and temperature doubled: the same distributions, times 4
    assert binary_kl_divergence(student, 2 * teacher, tau=2).item() == pytest.approx(4 * (first + second), rel=1e-5)


def test_a_sigmoid_is_a_softmax_over_present_and_absent():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 5, 3, 4, generator=generator) for _ in range(2))
    mask = torch.rand(2, 3, 4, generator=generator) > 0.5
    by_class = [kl_divergence(*(torch.stack([z[:, c], torch.zeros_like(z[:, c])], dim=1) for z in (student, teacher)),
                              tau=3.0, mask=mask) for c in range(5)]  # fmt: skip
    torch.testing.assert_close(binary_kl_divergence(student, teacher, tau=3.0, mask=mask), sum(by_class))


def test_sure_sigmoids_stay_finite():
    student = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = binary_kl_divergence(student, torch.tensor([[-200.0, 200.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(400)
    assert student.grad.tolist() == [[1.0, -1.0]]


def naive(student, teacher, binary):
    """The divergence at each position, as written down."""
    if binary:
        terms = [
            (q, p) for q, p in ((student.sigmoid(), teacher.sigmoid()), (1 - student.sigmoid(), 1 - teacher.sigmoid()))
        ]
    else:
        terms = [(student.softmax(dim=1), teacher.softmax(dim=1))]
    return sum((p * (p / q).log()).sum(dim=1) for q, p in terms)


@pytest.mark.parametrize('divergence', [kl_divergence, binary_kl_divergence])
def test_gradients_are_those_of_the_definition(divergence):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(2, 5, 3, 4, generator=generator) for _ in range(2))
    mask = torch.rand(2, 3, 4, generator=generator) > 0.3
    student.requires_grad_()
    double = student.detach().double().requires_grad_()
    expected = 4 * naive(double / 2, teacher.double() / 2, divergence is binary_kl_divergence)[mask].mean()
    found = divergence(student, teacher, tau=2, mask=mask)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = torch.autograd.grad(found, student)[0], torch.autograd.grad(expected, double)[0]
    torch.testing.assert_close(gradients[0], gradients[1].float(), rtol=1e-5, atol=1e-7)


def test_scores_of_a_detector_keep_one_map_besides_themselves():
    student, teacher, kept = torch.randn(2, 50, 6, 6, requires_grad=True), torch.randn(2, 50, 6, 6), {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        binary_kl_divergence(student, teacher, mask=torch.ones(2, 6, 6, dtype=torch.bool))
    large = {pointer for pointer, size in kept.items() if size >= student.numel()} - {student.data_ptr()}
    assert len(large) == 1


@pytest.mark.parametrize('divergence', [kl_divergence, binary_kl_divergence])
def test_a_teacher_that_nobody_detached_gets_its_gradient(divergence):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 5, generator=generator) for _ in range(2))
    teacher.requires_grad_()
    double = teacher.detach().double().requires_grad_()
    expected = naive(student.double(), double, divergence is binary_kl_divergence).mean()
    found = torch.autograd.grad(divergence(student, teacher), teacher)[0]
    torch.testing.assert_close(found, torch.autograd.grad(expected, double)[0].float(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('divergence', [kl_divergence, binary_kl_divergence])
def test_bad_input(divergence):
    with pytest.raises(ValueError, match='must match'):
        divergence(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=f'{divergence.__name__}: tau'):
        divergence(torch.zeros(2, 3), torch.zeros(2, 3), tau=0)
    with pytest.raises(ValueError, match='mask'):
        divergence(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), mask=torch.ones(2, 3))
