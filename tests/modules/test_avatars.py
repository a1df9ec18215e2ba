"""Avatars: perturbations, weights, gradients and the memory they cost."""

import pytest
import torch
from torch import Generator

from mmadm.functional import avatar_weights, batch_standardise, channel_wise_divergence
from mmadm.modules import AvatarEnsemble
from mmadm.modules.avatars import PERTURBATIONS, block_mask, channel_dropout, dropout, gaussian_noise
from mmadm.utils.errors import ConfigError


@pytest.fixture
def maps():
    generator = Generator().manual_seed(0)
    student = torch.randn(2, 6, 8, 8, generator=generator, requires_grad=True)
    return student, 1 + torch.randn(2, 6, 8, 8, generator=generator)


def squared(student, avatar):
    return (student - avatar).square().mean()


def drawn(seed=0):
    return Generator().manual_seed(seed)


def test_dropout_drops_elements_and_keeps_the_mean(maps):
    ones = torch.ones(8, 16, 32, 32)
    out = dropout(ones, drawn(), p=0.25)
    torch.testing.assert_close(out.unique(), torch.tensor([0.0, 4 / 3]))
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert out.mean().item() == pytest.approx(1.0, abs=0.01)
    # four elements share a random number, each has its own quarter of the bits
    dropped = (out.flatten().reshape(-1, 4) == 0).float()
    assert dropped.mean(dim=0).tolist() == pytest.approx([0.25] * 4, abs=0.01)
    torch.testing.assert_close(dropped.T.corrcoef(), torch.eye(4), rtol=0, atol=0.03)


def test_what_is_kept_is_scaled_by_the_probability_that_is_drawn_with():
    # 0.1 is no multiple of 2^-16
    assert dropout(torch.ones(100), drawn(), p=0.1).max().item() == pytest.approx(2**16 / (2**16 - 6554), rel=1e-7)
    # nearly 1 is not 1: an odd number of elements, all of them finite
    assert dropout(torch.ones(3, 5, 7), drawn(), p=1 - 1e-9).isfinite().all()


def test_channel_dropout_drops_whole_channels():
    out = channel_dropout(torch.ones(4, 64, 3, 3), drawn(), p=0.5)
    per_channel = out.flatten(2)
    assert torch.equal(per_channel.amax(2), per_channel.amin(2))
    assert 0.3 < (per_channel[..., 0] == 0).float().mean() < 0.7


def test_noise_is_a_share_of_each_channels_spread():
    feature = torch.randn(4, 2, 64, 64, generator=drawn(3)) * torch.tensor([1.0, 10.0])[:, None, None]
    added = gaussian_noise(feature, drawn(), std=0.2) - feature
    torch.testing.assert_close(added.std(dim=(0, 2, 3)), torch.tensor([0.2, 2.0]), rtol=0.05, atol=0)


def test_block_mask_drops_squares_of_all_channels():
    out = block_mask(torch.ones(16, 3, 10, 10), drawn(), p=0.5, size=4)
    assert torch.equal(out[:, 0], out[:, 2])
    corner = out[:, 0, :4, :4].flatten(1)
    assert torch.equal(corner.amax(1), corner.amin(1)) and 0 < (corner[:, 0] == 0).sum() < 16


def test_a_seed_gives_the_same_avatar(maps):
    feature = maps[1].repeat(8, 4, 1, 1)
    for perturb in PERTURBATIONS.values():
        assert torch.equal(perturb(feature, drawn(5)), perturb(feature, drawn(5)))
        assert not torch.equal(perturb(feature, drawn(5)), perturb(feature, drawn(6)))


@pytest.mark.parametrize('weighting', ['uniform', 'uncertainty'])
@pytest.mark.parametrize('teacher_too', [False, True])
def test_value_and_gradient_are_those_of_the_weighted_sum(maps, weighting, teacher_too):
    student, teacher = maps
    perturbation = [dict(type='GaussianNoise', std=0.1), dict(type='GaussianNoise', std=1.0), dict(type='Dropout')]
    ensemble = AvatarEnsemble(3, perturbation, weighting, teacher_too)
    torch.manual_seed(4)
    value, weights = ensemble(squared, student, teacher)
    value.mul(3.0).backward()
    torch.manual_seed(4)
    seeds = torch.randint(2**62, (3,)).tolist()
    avatars = [p(teacher, drawn(seed)) for p, seed in zip(ensemble.perturbations, seeds, strict=True)]
    avatars += [teacher] if teacher_too else []
    expected_weights = avatar_weights(teacher, avatars, 1.0) if weighting == 'uncertainty' else torch.ones(len(avatars))
    torch.testing.assert_close(weights, expected_weights)
    fresh = student.clone().detach().requires_grad_()
    expected = sum(w * squared(fresh, a) for w, a in zip(expected_weights, avatars, strict=True)) / len(avatars)
    torch.testing.assert_close(value, expected)
    expected.mul(3.0).backward()
    torch.testing.assert_close(student.grad, fresh.grad)


def test_a_noisier_avatar_weighs_less_and_ever_less(maps):
    teacher = maps[1]

    def weights_at(noise):
        perturbation = [dict(type='GaussianNoise', std=0.05), dict(type='GaussianNoise', std=noise)]
        torch.manual_seed(0)
        return AvatarEnsemble(2, perturbation)(squared, maps[0], teacher)[1]

    noisy = [weights_at(noise)[1].item() for noise in (0.05, 1.0, 4.0)]
    assert noisy[0] == pytest.approx(1.0, abs=0.01) and noisy[0] > noisy[1] > noisy[2]
    assert weights_at(4.0).sum().item() == pytest.approx(2.0)


def test_equal_avatars_weigh_one(maps):
    untouched = dict(type='Dropout', p=0.0)
    weights = AvatarEnsemble(4, untouched)(squared, *maps)[1]
    assert weights.tolist() == [1.0] * 4


def test_batchnorm_is_what_the_published_program_does(maps):
    student, teacher = maps
    ensemble = AvatarEnsemble(1, dict(type='Dropout', p=0.0), 'batchnorm')
    both = ensemble(squared, student, teacher)[0]
    torch.testing.assert_close(both, squared(batch_standardise(student), batch_standardise(teacher)))
    alone = ensemble(channel_wise_divergence_tau1, student, teacher, standardise_teacher=False)[0]
    torch.testing.assert_close(alone, channel_wise_divergence(batch_standardise(student), teacher, 1.0))
    both.backward()
    fresh = student.clone().detach().requires_grad_()
    squared(batch_standardise(fresh), batch_standardise(teacher)).backward()
    torch.testing.assert_close(student.grad, fresh.grad)


def channel_wise_divergence_tau1(student, avatar):
    return channel_wise_divergence(student, avatar, 1.0)


def test_every_call_draws_anew_from_torchs_generator(maps):
    ensemble = AvatarEnsemble(2)
    torch.manual_seed(1)
    first, second = (ensemble(squared, *maps)[0].item() for _ in range(2))
    torch.manual_seed(1)
    assert first != second and ensemble(squared, *maps)[0].item() == first


def test_more_avatars_keep_no_more_for_the_backward_pass(maps):
    def kept(num):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            value = AvatarEnsemble(num)(squared, maps[0] * 1.0, maps[1])[0]
        reached, seen = [value.grad_fn], set()
        while reached:  # what the graph of the result still holds
            node = reached.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            reached += [parent for parent, _ in node.next_functions]
        return len(seen)

    assert kept(1) == kept(8)


def test_half_precision_maps_give_a_float32_loss_and_finite_gradients(maps):
    student = maps[0].half().detach().requires_grad_()
    value, _ = AvatarEnsemble(2)(lambda s, a: 1e-6 * squared(s, a), student, maps[1].half())
    (value * 2.0**14).backward()  # what a gradient scaler does
    assert value.dtype == torch.float32 and student.grad.abs().max() > 0


@pytest.mark.parametrize('weighting', ['uncertainty', 'batchnorm'])
def test_statistics_are_those_inside_of_the_mask(maps, weighting):
    student, teacher = maps
    mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    mask[0, :5] = mask[1, :, :6] = True
    perturbation = [dict(type='GaussianNoise', std=0.1), dict(type='GaussianNoise', std=1.0)]

    def inside(own, avatar):
        return ((own - avatar) * mask.unsqueeze(1)).square().mean()

    def found(noise):
        torch.manual_seed(3)
        outside = noise * ~mask.unsqueeze(1)
        return AvatarEnsemble(2, perturbation, weighting)(inside, student + outside, teacher + outside, mask=mask)

    noisy = found(50)
    torch.testing.assert_close(noisy, found(0))
    assert weighting == 'batchnorm' or noisy[1][0] > noisy[1][1]


def test_a_source_that_nobody_detached_is_refused(maps):
    student, teacher = maps
    with pytest.raises(ValueError, match='must be detached'):
        AvatarEnsemble()(squared, student, teacher.requires_grad_())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num=0), 'avatars.num=0'),
        (dict(weighting='best'), "avatars.weighting='best'"),
        (dict(temperature=0.0), 'avatars.temperature'),
        (dict(perturbation=dict(type='Dropuot')), "did you mean 'Dropout'"),
        (dict(perturbation=dict(type='Dropout', p=1.5)), 'p must be at least 0'),
        (dict(perturbation=dict(type='Dropout', rate=0.5)), 'rate'),
        (dict(num=3, perturbation=[dict(type='Dropout')] * 2), 'lists 2 for num=3'),
        (dict(perturbation=dict(type='BlockMask', size=0)), 'size must be at least 1'),
        (dict(perturbation=dict(type='GaussianNoise', std=-1)), 'std must not be negative'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        AvatarEnsemble(**options)


def test_variance_is_that_of_the_perturbation_over_all_positions():
    # x / (1 - p) with probability 1 - p, else 0: variance x^2 p / (1 - p)
    feature = torch.tensor([1.0, 3.0])[None, :, None, None].expand(2, 2, 24, 24)
    torch.manual_seed(0)
    found = AvatarEnsemble(200, dict(type='Dropout', p=0.2)).variance(feature)
    assert found.shape == (2, 24, 24)
    torch.testing.assert_close(found, torch.full_like(found, (1 + 9) / 2 * 0.25), rtol=0.35, atol=0)
    assert found.mean().item() == pytest.approx(1.25, rel=0.02)


def test_a_single_avatar_varies_around_the_teacher():
    feature = torch.tensor([1.0, 3.0])[None, :, None, None].expand(1, 2, 8, 8)
    found = AvatarEnsemble(1, dict(type='ChannelDropout', p=0.5)).variance(feature)
    # both channels become 0 or twice themselves: each lies 1 or 3 from the teacher, so 0.5 or 1.5 from their mean
    torch.testing.assert_close(found, torch.full_like(found, (0.25 + 2.25) / 2))
