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
