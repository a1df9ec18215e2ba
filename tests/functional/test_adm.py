"""ADM's losses against numbers worked out by hand on 2x2 maps, and against what the paper claims of them."""

import math

import pytest
import torch

from mmadm.functional import (
    consensus_loss,
    divergence_loss,
    region_weights,
    similarity_map,
)

# One image, two channels, 2x2 positions. The cosines are 1, 0, -1 and 0.6.
STUDENT = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]])
TEACHER = torch.tensor([[[[2.0, 0.0], [-3.0, 0.6]], [[0.0, 5.0], [0.0, 0.8]]]])
COSINES = [1.0, 0.0, -1.0, 0.6]


def softmax(values):
    exps = [math.exp(v) for v in values]
    return [e / sum(exps) for e in exps]


def test_similarity_is_the_cosine_at_each_position():
    torch.testing.assert_close(similarity_map(STUDENT, TEACHER), torch.tensor([[[1.0, 0.0], [-1.0, 0.6]]]))


@pytest.mark.parametrize('tau', [0.1, 1.0])
def test_losses_by_hand_softmax(tau):
    w = softmax([s / tau for s in COSINES])
    v = softmax([-s / tau for s in COSINES])
    consensus = sum(a * (1 - s) for a, s in zip(w, COSINES, strict=True))
    divergence = sum(a * max(s, 0) for a, s in zip(v, COSINES, strict=True))
    assert consensus_loss(STUDENT, TEACHER, tau=tau).item() == pytest.approx(consensus, rel=1e-5)
    assert divergence_loss(STUDENT, TEACHER, tau=tau).item() == pytest.approx(divergence, rel=1e-5)


def test_losses_by_hand_topk_and_uniform():
    # the two most similar positions have cosines 1 and 0.6, the two least similar -1 and 0
    assert consensus_loss(STUDENT, TEACHER, region='topk', share=0.5).item() == pytest.approx(0.2)
    assert divergence_loss(STUDENT, TEACHER, region='topk', share=0.5).item() == pytest.approx(0.0)
    assert divergence_loss(STUDENT, TEACHER, region='topk', share=0.75).item() == pytest.approx(0.2)
    assert consensus_loss(STUDENT, TEACHER, region='uniform').item() == pytest.approx(1 - 0.15)
    assert divergence_loss(STUDENT, TEACHER, region='uniform').item() == pytest.approx(0.4)


def test_the_batch_is_a_mean_over_images():
    both = torch.cat([STUDENT, TEACHER]), torch.cat([TEACHER, TEACHER])
    alone = consensus_loss(STUDENT, TEACHER, tau=0.5) + consensus_loss(TEACHER, TEACHER, tau=0.5)
    torch.testing.assert_close(consensus_loss(*both, tau=0.5), alone / 2)


def test_feature_scale_does_not_matter():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, 4), torch.randn(2, 6, 5, 4)
    scale = torch.rand(2, 1, 5, 4) * 10 + 0.1
    for loss in (consensus_loss, divergence_loss):
        torch.testing.assert_close(loss(student * scale, teacher), loss(student, teacher))
        torch.testing.assert_close(loss(student, teacher * 7), loss(student, teacher))


def test_weights_carry_no_gradient_and_sum_to_one():
    score = torch.randn(3, 4, 5, requires_grad=True)
    for region in ('softmax', 'topk', 'uniform'):
        weights = region_weights(score, tau=0.3, region=region, share=0.25)
        assert not weights.requires_grad
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))


def test_both_sides_have_the_gradient_of_the_cosine():
    student, teacher = (
        torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)).requires_grad_() for seed in (1, 2)
    )
    upstream = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(3))
    found = torch.autograd.grad(similarity_map(student, teacher), (student, teacher), upstream)
    cosine = torch.nn.functional.cosine_similarity(student.double(), teacher.double(), dim=1)
    expected = torch.autograd.grad(cosine, (student, teacher), upstream.double())
    torch.testing.assert_close(found, expected)


def test_similarity_is_zero_where_no_position_counts():
    mask = torch.tensor([[[True, True], [False, True]]])
    torch.testing.assert_close(similarity_map(STUDENT, TEACHER, mask), torch.tensor([[[1.0, 0.0], [0.0, 0.6]]]))


def test_below_the_floor_the_length_counts_as_constant():
    student = torch.full((1, 2, 1, 1), 1e-6, requires_grad=True)
    teacher = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    (gradient,) = torch.autograd.grad(similarity_map(student, teacher).sum(), student)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([0.6e4, 0.8e4]))


def test_gradient_of_consensus_is_that_of_fixed_weights():
    student = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    teacher = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    similarity = similarity_map(student, teacher)
    weights = (similarity.detach().flatten(1) / 0.5).softmax(1)
    by_hand = (weights * (1 - similarity.flatten(1))).sum(1).mean()
    (expected,) = torch.autograd.grad(by_hand, student)
    (found,) = torch.autograd.grad(consensus_loss(student, teacher, tau=0.5), student)
    torch.testing.assert_close(found, expected)


def angle_map(cosines):
    """Features of one channel pair with the given cosines to the constant map (1, 0)."""
    c = torch.tensor(cosines).view(1, 1, 2, 2)
    return torch.cat([c, (1 - c**2).sqrt()], dim=1)


def test_a_step_on_consensus_raises_similarity_most_where_it_is_high():
    # mirrored cosines have gradients of one length, so only the weights can differ
    student = angle_map([0.6, -0.6, 0.6, -0.6]).requires_grad_()
    teacher = torch.cat([torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)], dim=1)
    (gradient,) = torch.autograd.grad(consensus_loss(student, teacher, tau=0.5), student)
    gain = (similarity_map(student - 0.1 * gradient, teacher) - similarity_map(student, teacher)).flatten()
    assert (gain > 0).all()
    assert gain[0] > 3 * gain[1] and gain[2] > 3 * gain[3]


def test_a_step_on_divergence_lowers_similarity_most_where_it_is_low():
    student = torch.cat([torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)], dim=1)
    # sin is equal for cosines c and sqrt(1 - c^2) swapped, so compare per unit of sin: d cos / d theta
    teacher = angle_map([0.9, 0.3, 0.9, 0.3]).requires_grad_()
    (gradient,) = torch.autograd.grad(divergence_loss(student, teacher, tau=0.2), teacher)
    drop = (similarity_map(student, teacher) - similarity_map(student, teacher - 0.1 * gradient)).flatten()
    assert (drop > 0).all()
    assert drop[1] > 3 * drop[0] and drop[3] > 3 * drop[2]


def test_divergence_stops_at_zero_similarity():
    student = torch.cat([torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)], dim=1)
    teacher = angle_map([-0.9, -0.1, -0.5, -0.7]).requires_grad_()
    loss = divergence_loss(student, teacher)
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, teacher)
    assert gradient.abs().max() == 0


def test_zero_features_give_finite_losses_and_gradients():
    student = torch.zeros(1, 3, 2, 2, requires_grad=True)
    loss = consensus_loss(student, torch.zeros(1, 3, 2, 2))
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_half_precision_features_do_not_overflow():
    big = torch.full((1, 4, 2, 2), 300.0, dtype=torch.float16)  # 4 * 300^2 is beyond float16
    assert consensus_loss(big, big).item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: similarity_map(STUDENT, TEACHER[:, :1]), 'one shape'),
        (lambda: consensus_loss(STUDENT, TEACHER, tau=0), 'tau'),
        (lambda: divergence_loss(STUDENT, TEACHER, region='best'), "found 'best'"),
        (lambda: consensus_loss(STUDENT, TEACHER, region='topk', share=0), 'share'),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
