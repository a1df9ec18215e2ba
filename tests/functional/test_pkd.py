"""Pearson distance: by hand, published figure, its equality to 1 - r, and channels without spread."""

import pytest
import torch

from mmadm.functional import pearson_distance


def random_maps(*shape):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for _ in range(2)]


def test_parity_with_the_published_program(golden):
    case = golden('pkd')
    assert pearson_distance(**case.inputs).item() == pytest.approx(case.expected['loss'], rel=1e-4)


def test_by_hand():
    # (0, 2) and (2, 0) are standardised to -+ 1 / sqrt 2: squared differences of 2, halved
    student, teacher = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2), torch.tensor([2.0, 0.0]).view(1, 1, 1, 2)
    assert pearson_distance(student, teacher).item() == pytest.approx(1.0, rel=1e-5)
    assert pearson_distance(student, student).item() == 0


def test_it_is_one_minus_the_correlation():
    student, teacher = random_maps(4, 3, 6, 5)
    r = [torch.corrcoef(torch.stack([student[:, c].flatten(), teacher[:, c].flatten()]))[0, 1] for c in range(3)]
    count = 4 * 6 * 5  # the mean divides by the count, the unbiased variance by one less
    torch.testing.assert_close(pearson_distance(student, teacher), (1 - sum(r) / 3) * (count - 1) / count)


def test_scale_and_offset_of_a_channel_do_not_matter():
    student, teacher = random_maps(2, 3, 4, 5)
    scale, offset = torch.tensor([0.1, 5.0, 40.0]).view(1, 3, 1, 1), torch.tensor([3.0, -8.0, 0.5]).view(1, 3, 1, 1)
    torch.testing.assert_close(
        pearson_distance(student * scale + offset, teacher), pearson_distance(student, teacher), rtol=1e-4, atol=1e-6
    )


def test_a_level_with_one_position_has_nothing_to_correlate():
    student = torch.randn(1, 4, 1, 1, requires_grad=True)
    loss = pearson_distance(student, torch.randn(1, 4, 1, 1))
    loss.backward()
    assert loss.item() == 0 and student.grad.abs().max() == 0
    # two images make two positions
    assert pearson_distance(*random_maps(2, 4, 1, 1)).item() > 0


def test_a_constant_channel_keeps_the_gradient_finite():
    student, teacher = random_maps(2, 3, 4, 5)
    student[:, 1] = 2.0
    teacher[:, 2] = 0.0
    student.requires_grad_()
    pearson_distance(student, teacher).backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (8, 3), (1, 2, 7)])
def test_gradients_are_those_of_the_definition(shape):
    student, teacher = (3 + 2 * x for x in random_maps(*shape))
    student.requires_grad_()
    double = student.detach().double().requires_grad_()
    dims = [0, *range(2, len(shape))]

    def standardised(x):
        return (x - x.mean(dims, keepdim=True)) / (x.std(dims, keepdim=True) + 1e-6)

    expected = 7 * (standardised(double) - standardised(teacher.double())).square().mean() / 2
    found = 7 * pearson_distance(student, teacher)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = torch.autograd.grad(found, student)[0], torch.autograd.grad(expected, double)[0]
    torch.testing.assert_close(gradients[0], gradients[1].float(), rtol=1e-4, atol=1e-6)


def test_two_maps_are_kept_for_the_backward_pass():
    student, kept = torch.randn(2, 3, 8, 8, requires_grad=True), {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t.numel()}) or t, lambda t: t):
        pearson_distance(student, torch.randn(2, 3, 8, 8))
    assert sum(size >= student.numel() for size in kept.values()) == 2


def test_half_precision_maps_keep_their_type_of_gradient():
    student, teacher = (1000 * x for x in random_maps(2, 3, 8, 8))
    half = student.half().requires_grad_()
    pearson_distance(half, teacher.half()).mul(2.0**14).backward()  # what a gradient scaler does
    assert half.grad.dtype == torch.float16 and half.grad.isfinite().all() and half.grad.any()
