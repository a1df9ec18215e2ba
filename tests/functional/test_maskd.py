"""Masks of receptive tokens, the distance under them and their similarity: by hand."""

import math

import pytest
import torch

from mmadm.functional import mask_similarity, masked_distance, receptive_masks


def test_masks_are_sigmoids_of_token_times_feature():
    feature = torch.tensor([1.0, 0.0, 0.0, math.log(3.0)]).view(1, 2, 1, 2)  # positions (1, 0) and (0, log 3)
    tokens = torch.tensor([[0.0, 1.0], [-math.log(4.0), 0.0]])
    expected = torch.tensor([[0.5, 0.75], [0.2, 0.5]]).view(1, 2, 1, 2)
    torch.testing.assert_close(receptive_masks(tokens, feature), expected)


def test_distance_by_hand():
    # squared differences, mean over channels: 1 at the first position, 4 at the second
    student = torch.zeros(1, 2, 1, 2)
    teacher = torch.tensor([1.0, 2.0, -1.0, 2.0]).view(1, 2, 1, 2)
    masks = torch.tensor([[1.0, 0.0], [0.5, 0.25]]).view(1, 2, 1, 2)
    first, second = 1.0, (0.25 * 1 + 0.0625 * 4) / 0.75
    assert masked_distance(student, teacher, masks).item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_distance_is_the_one_written_out_over_tokens_and_channels():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    masks = torch.rand(2, 6, 4, 5, generator=generator)
    by_token = (masks.unsqueeze(2) * (student - teacher).unsqueeze(1)).square().sum(dim=(3, 4))
    torch.testing.assert_close(
        masked_distance(student, teacher, masks), (by_token / masks.sum(dim=(2, 3)).unsqueeze(2)).mean()
    )


def test_a_mask_of_zeros_keeps_the_gradient_finite():
    student = torch.ones(1, 2, 2, 2, requires_grad=True)
    loss = masked_distance(student, torch.zeros(1, 2, 2, 2), torch.zeros(1, 3, 2, 2))
    loss.backward()
    assert loss.item() == 0 and student.grad.abs().max() == 0


def test_similarity_by_hand():
    # of three masks the first two are equal (1), the third is disjoint from both (0)
    masks = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).view(1, 3, 1, 2)
    assert mask_similarity(masks).item() == pytest.approx(1 / 3)
    # Dice of (1, 0) and (0.5, 0.5): 2 * 0.5 / (1 + 0.5)
    assert mask_similarity(torch.tensor([[1.0, 0.0], [0.5, 0.5]]).view(1, 2, 1, 2)).item() == pytest.approx(2 / 3)
    assert mask_similarity(torch.ones(2, 1, 3, 3)).item() == 0  # one token has no other


def test_products_are_not_taken_in_half_precision():
    feature, tokens = torch.full((1, 300, 16, 16), 1 + 2**-9), torch.full((2, 300), 1 / 300)
    plain = receptive_masks(tokens, feature), mask_similarity(torch.ones(1, 2, 300, 300))
    with torch.autocast('cpu', dtype=torch.float16):
        cast = receptive_masks(tokens, feature), mask_similarity(torch.ones(1, 2, 300, 300))
    torch.testing.assert_close(cast, plain)
    assert plain[1].item() == 1


def test_bad_input():
    with pytest.raises(ValueError, match='same C'):
        receptive_masks(torch.zeros(2, 3), torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match='masks'):
        masked_distance(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, 3))
    with pytest.raises(ValueError, match='N, T, H, W'):
        mask_similarity(torch.zeros(2, 3))
