"""Weights of avatars: by hand, adaptive, equal where avatars are; and the published program's figures."""

import math

import pytest
import torch

from mmadm.functional import (
    avatar_uncertainty,
    avatar_weights,
    batch_standardise,
    channel_wise_divergence,
    generation_distance,
    weights_from_uncertainty,
)


def teacher_map():
    return torch.randn(2, 8, 6, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1


def dropout(feature, p, seed):
    kept = torch.rand(feature.shape, generator=torch.Generator().manual_seed(seed)) >= p
    return feature * kept / (1 - p)


def test_parity_with_the_published_program(golden):
    case = golden('akd_cwd_published')
    found = channel_wise_divergence(batch_standardise(case.inputs['student']), case.inputs['avatar'], **case.params)
    assert found.item() == pytest.approx(case.expected['loss'], rel=1e-4)
    case = golden('akd_mse_published')
    student, avatar = batch_standardise(case.inputs['student']), batch_standardise(case.inputs['avatar'])
    assert generation_distance(student, avatar).item() == pytest.approx(case.expected['loss'], rel=1e-4)


def test_standardising_is_a_batchnorm_without_parameters():
    feature = teacher_map()
    torch.testing.assert_close(batch_standardise(feature), torch.nn.BatchNorm2d(8, affine=False)(feature))
    assert batch_standardise(torch.ones(1, 3, 1, 1)).tolist() == torch.zeros(1, 3, 1, 1).tolist()


def test_uncertainty_by_hand():
    # two channels, each 0 and 2: mean 1, sigma 1
    teacher = torch.tensor([0.0, 2.0, 0.0, 2.0]).view(1, 2, 1, 2)
    # channel 0 becomes 0 and 6: mean 3, sigma 3; so d = (2, 0) in the means and (2, 0) in the sigmas, variance 1 each
    avatar = torch.tensor([0.0, 6.0, 0.0, 2.0]).view(1, 2, 1, 2)
    assert avatar_uncertainty(teacher, avatar).item() == pytest.approx(1, rel=1e-4)
    # channel 0 becomes 4 and 6: mean 5, sigma 1; d = (4, 0) and (0, 0), variances 4 and 0
    shifted = torch.tensor([4.0, 6.0, 0.0, 2.0]).view(1, 2, 1, 2)
    assert avatar_uncertainty(teacher, shifted).item() == pytest.approx(2, rel=1e-4)
    # a departure that all channels share is no uncertainty, and the teacher's scale is taken out
    assert avatar_uncertainty(teacher, 3 * teacher).item() == pytest.approx(0, abs=1e-6)
    assert avatar_uncertainty(50 * teacher, 50 * avatar).item() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize('shape', [(0, 4), (0, 4, 3, 3), (2, 4, 0, 3)])
def test_without_any_element_every_avatar_weighs_the_same(shape):
    assert avatar_weights(torch.zeros(shape), [torch.zeros(shape)] * 2).tolist() == [1.0, 1.0]


def test_weights_by_hand():
    found = weights_from_uncertainty(torch.tensor([0.0, math.log(3.0)]))
    torch.testing.assert_close(found, torch.tensor([1.5, 0.5]))  # softmax (0.75, 0.25), times 2
    torch.testing.assert_close(weights_from_uncertainty(torch.tensor([0.0, math.log(9.0)]), temperature=2.0), found)


def test_equal_avatars_weigh_one():
    teacher = teacher_map()
    avatar = dropout(teacher, 0.1, seed=1)
    assert avatar_weights(teacher, [avatar] * 3).tolist() == [1.0, 1.0, 1.0]
    assert avatar_weights(teacher, [avatar]).tolist() == [1.0]


def test_a_noisier_avatar_weighs_less():
    teacher = teacher_map()
    mild = [dropout(teacher, 0.1, seed) for seed in range(3)]
    fair = avatar_weights(teacher, [*mild, dropout(teacher, 0.1, seed=9)])
    found = [avatar_weights(teacher, [*mild, dropout(teacher, p, seed=9)])[-1].item() for p in (0.1, 0.5, 0.9)]
    assert (fair - 1).abs().max() < 0.02
    assert found[0] > found[1] > found[2] and found[2] < 0.7
    # a lower temperature is stricter, the mean weight stays 1
    strict = avatar_weights(teacher, [*mild, dropout(teacher, 0.5, seed=9)], temperature=0.1)
    assert strict[-1] < found[1]
    assert strict.mean().item() == pytest.approx(1)


def test_a_stack_and_one_by_one_give_the_same():
    teacher = teacher_map()
    avatars = [dropout(teacher, 0.1 * (seed + 1), seed) for seed in range(4)]
    weights = avatar_weights(teacher, avatars, temperature=0.3)
    torch.testing.assert_close(avatar_weights(teacher, torch.stack(avatars), temperature=0.3), weights)
    one_by_one = torch.stack([avatar_uncertainty(teacher, avatar) for avatar in avatars])
    torch.testing.assert_close(weights_from_uncertainty(one_by_one, temperature=0.3), weights)


def test_weights_carry_no_gradient():
    teacher = teacher_map().requires_grad_()
    weights = avatar_weights(teacher, [dropout(teacher, 0.1, seed) for seed in range(2)])
    assert not weights.requires_grad
    assert not avatar_uncertainty(teacher, dropout(teacher, 0.1, seed=0)).requires_grad
    assert not weights_from_uncertainty(torch.ones(2, requires_grad=True)).requires_grad


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_and_dead_channels_stay_finite(dtype):
    teacher = (100 * teacher_map()).to(dtype)
    teacher[:, 3] = 0
    avatars = [dropout(teacher, 0.1, seed) for seed in range(2)]
    weights = avatar_weights(teacher, avatars)
    torch.testing.assert_close(weights, avatar_weights(teacher.float(), [avatar.float() for avatar in avatars]))
    assert avatar_weights(teacher[:1, :1, :1, :1], [teacher[:1, :1, :1, :1] + 1] * 2).tolist() == [1.0, 1.0]


def test_bad_input():
    teacher = teacher_map()
    with pytest.raises(ValueError, match='avatar_uncertainty'):
        avatar_weights(teacher, [teacher[:1]])
    with pytest.raises(ValueError, match='at least one'):
        avatar_weights(teacher, [])
    with pytest.raises(ValueError, match='temperature'):
        avatar_weights(teacher, [teacher], temperature=0)
