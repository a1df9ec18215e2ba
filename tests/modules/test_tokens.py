"""ReceptiveTokens: masked features by hand, insertion into a teacher, and that the teacher's own loss trains them."""

import pytest
import torch
from torch import nn

from mmadm.functional import mask_similarity, receptive_masks
from mmadm.modules import ReceptiveTokens


def test_masked_features_are_the_sum_over_tokens():
    torch.manual_seed(0)
    tokens = ReceptiveTokens(3, [4, 6])
    features = [torch.randn(2, 4, 5, 5), torch.randn(2, 6, 3, 3)]
    masked, similarity = tokens(features)
    masks = [receptive_masks(level, feature) for level, feature in zip(tokens.parameters(), features, strict=True)]
    for found, feature, mask in zip(masked, features, masks, strict=True):
        torch.testing.assert_close(found, (feature.unsqueeze(1) * mask.unsqueeze(2)).sum(dim=1))
    torch.testing.assert_close(similarity, (mask_similarity(masks[0]) + mask_similarity(masks[1])) / 2)


def test_the_state_is_tokens_by_level():
    state = ReceptiveTokens(3, [4, 6]).state_dict()
    assert {name: tuple(values.shape) for name, values in state.items()} == {'0': (3, 4), '1': (3, 6)}


def test_tokens_start_small_and_different():
    torch.manual_seed(0)
    (tokens,) = ReceptiveTokens(6, [256]).parameters()
    assert tokens.std().item() == pytest.approx(0.01, rel=0.1) and not torch.equal(tokens[0], tokens[1])


def test_the_teachers_output_is_masked_only_inside_the_context():
    tokens, neck = ReceptiveTokens(2, [3]), nn.Conv2d(3, 3, 1)
    image = torch.randn(1, 3, 4, 4)
    plain = neck(image)
    with tokens.inserted(neck) as similarities:
        torch.testing.assert_close(neck(image), tokens([plain])[0][0])
    assert torch.equal(neck(image), plain)
    assert len(similarities) == 1 and similarities[0].requires_grad


def test_an_error_inside_the_context_leaves_the_teacher_as_it_was():
    tokens, neck = ReceptiveTokens(2, [3]), nn.Conv2d(3, 3, 1)
    image = torch.randn(1, 3, 4, 4)
    plain = neck(image)
    with pytest.raises(KeyError), tokens.inserted(neck):
        raise KeyError
    assert torch.equal(neck(image), plain)


class Pyramid(nn.Module):
    def forward(self, image):
        return image, image[..., ::2, ::2]


def test_several_levels_stay_a_tuple():
    tokens, neck = ReceptiveTokens(2, [3, 3]), Pyramid()
    image = torch.randn(1, 3, 4, 4)
    with tokens.inserted(neck):
        found = neck(image)
    assert isinstance(found, tuple)
    torch.testing.assert_close(list(found), tokens([image, image[..., ::2, ::2]])[0])


def test_levels_must_fit():
    with pytest.raises(ValueError, match='2 levels, found 1'):
        ReceptiveTokens(2, [3, 3])([torch.zeros(1, 3, 2, 2)])


def test_task_loss_and_similarity_train_the_tokens_of_a_frozen_teacher():
    torch.manual_seed(0)
    # left and right half of the image differ; the frozen head needs both
    image = torch.cat([torch.tensor([4.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4),
                       torch.tensor([0.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)], dim=3)  # fmt: skip
    neck, tokens = nn.Identity(), ReceptiveTokens(2, [2])
    optimizer = torch.optim.Adam(tokens.parameters(), lr=0.05)
    with tokens.inserted(neck) as similarities:
        for _ in range(200):
            similarities.clear()
            optimizer.zero_grad()
            task = (neck(image) - image).square().mean()
            (task + similarities[0]).backward()
            optimizer.step()
    masks = receptive_masks(next(tokens.parameters()), image)
    assert task.item() < 0.1 and similarities[0].item() < 0.2  # two masks of one half each would give 0, 0
    assert (masks[0, 0, 0, 0] - masks[0, 0, 0, -1]).abs() > 0.7  # each token has one half
