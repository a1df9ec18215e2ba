"""Masks: what lies outside of the image counts nowhere, and a masked value is the value on the cropped map."""

import pytest
import torch

from mmadm.functional import (
    align_statistics,
    attention_distance,
    attention_diversity,
    attention_map,
    avatar_uncertainty,
    avatar_weights,
    batch_standardise,
    binary_kl_divergence,
    channel_statistics,
    channel_wise_divergence,
    consensus_loss,
    cross_image_divergence,
    decoupled_kl,
    dist_distance,
    divergence_loss,
    diversity_target,
    fgd_attention_distance,
    fgd_feature_distance,
    fgd_masks,
    generation_distance,
    hierarchical_distance,
    kl_divergence,
    mask_similarity,
    masked_distance,
    mean_squared_distance,
    memory_divergence,
    pearson_distance,
    prompted_band_distance,
    receptive_masks,
    switch_threshold,
)
from mmadm.functional.kdcl import minimum_ensemble, naive_ensemble
from mmadm.modules import GlobalContext

TOKENS = torch.randn(3, 5, generator=torch.Generator().manual_seed(9))


def labels_like(student):
    """A class at each position that depends on the position's own values alone."""
    return (student.detach()[:, 0] > 0).long()


def context(feature, mask):
    torch.manual_seed(0)
    block = GlobalContext(5)
    torch.nn.init.normal_(block.expand.weight)
    return block(feature, mask)


def fgd_cells(feature, mask):
    """Foreground and background of a box at the top left; cells of the input and of the map are the same."""
    boxes = [torch.tensor([[0.0, 0.0, 2.0, 1.0]])] * len(feature)
    size = tuple(feature.shape[2:])
    return fgd_masks(boxes, size, size, mask)


def maskd(student, teacher, mask=None):
    return masked_distance(student, teacher, receptive_masks(TOKENS, teacher), mask)


#: A mean over images of what each image gives on its own positions
PER_IMAGE = {
    'consensus': consensus_loss,
    'consensus, uniform': lambda s, t, mask=None: consensus_loss(s, t, region='uniform', mask=mask),
    'consensus, topk': lambda s, t, mask=None: consensus_loss(s, t, region='topk', share=0.3, mask=mask),
    'divergence': divergence_loss,
    'divergence, topk': lambda s, t, mask=None: divergence_loss(s, t, region='topk', share=0.7, mask=mask),
    'cwd': channel_wise_divergence,
    'mgd': generation_distance,
    'maskd': maskd,
    'similarity of masks': lambda s, t, mask=None: mask_similarity(s.sigmoid(), mask),
    'attention': lambda s, t, mask=None: attention_distance(attention_map(s), attention_map(t), mask),
    'attention of features': attention_distance,
    'diversity': lambda s, t, mask=None: attention_diversity(attention_map(s), attention_map(t), mask),
    'fgd, features': lambda s, t, mask=None: sum(fgd_feature_distance(s, t, *fgd_cells(s, mask), mask=mask)),
    'fgd, attention': lambda s, t, mask=None: fgd_attention_distance(s, t, mask=mask),
    'fgd, context': lambda s, t, mask=None: 0.01 * generation_distance(context(s, mask), context(t, mask), mask),
    'reviewkd': hierarchical_distance,
    'diversity target': lambda s, t, mask=None: mean_of_images(diversity_target(s, mask) * t, mask),
}
#: A mean over the positions of the whole batch
POOLED = {
    'kl': kl_divergence,
    'binary kl': binary_kl_divergence,
    'dkd': lambda s, t, mask=None: decoupled_kl(s, t, labels_like(t), mask=mask),
    'dist': dist_distance,
    'dist, sigmoid': lambda s, t, mask=None: dist_distance(s, t, mask=mask, binary=True),
    'pkd': pearson_distance,
    'hint': mean_squared_distance,
    'cirkd, memory': lambda s, t, mask=None: memory_divergence(s, t, TOKENS, mask=mask),
    'crosskd, aligned': lambda s, t, mask=None: mean_squared_distance(align_statistics(s, t, mask), t, mask),
    'standardised': lambda s, t, mask=None: mean_squared_distance(batch_standardise(s, mask), t, mask),
}
#: What a batch with an empty image is worth beside the batch without it
OF_PAIRS = {'cirkd, pixels': (cross_image_divergence, 4 / 9)}
OF_CELLS = {'freekd': (lambda s, t, mask=None: prompted_band_distance(s, t, TOKENS[None], mask), 1)}
SHARES = (
    {name: (loss, 2 / 3) for name, loss in PER_IMAGE.items()}
    | {name: (loss, 1) for name, loss in POOLED.items()}
    | OF_PAIRS
    | OF_CELLS
)
LOSSES = {name: loss for name, (loss, _) in SHARES.items()}
every_loss = pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)


def mean_of_images(values, mask):
    """Mean over images of the sum over each image's own positions."""
    inside = values if mask is None else values * mask.unsqueeze(1)
    return inside.sum() / len(values)


def maps(images=3, height=7, width=6):
    generator = torch.Generator().manual_seed(4)
    student, teacher = (torch.randn(images, 5, height, width, generator=generator) for _ in range(2))
    return student.requires_grad_(), teacher


def corners(sizes, height=7, width=6):
    """Masks of rectangles at the top left."""
    mask = torch.zeros(len(sizes), height, width, dtype=torch.bool)
    for image, (rows, columns) in enumerate(sizes):
        mask[image, :rows, :columns] = True
    return mask


def value_and_gradient(loss, student, *teacher, **mask):
    value = loss(student, *teacher, **mask)
    return value, torch.autograd.grad(value, student)[0]


@every_loss
def test_a_mask_that_is_true_everywhere_changes_nothing(loss):
    student, teacher = maps()
    everywhere = torch.ones(3, 7, 6, dtype=torch.bool)
    expected = value_and_gradient(loss, student, teacher)
    torch.testing.assert_close(
        value_and_gradient(loss, student, teacher, mask=everywhere), expected, rtol=1e-5, atol=1e-6
    )


@every_loss
def test_a_masked_value_is_that_of_the_cropped_map(loss):
    student, teacher = maps()
    value, gradient = value_and_gradient(loss, student, teacher, mask=corners([(4, 5)] * 3))
    expected, cropped = value_and_gradient(lambda s: loss(s[:, :, :4, :5], teacher[:, :, :4, :5]), student)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, cropped, rtol=1e-4, atol=1e-6)
    outside = gradient.masked_fill(corners([(4, 5)] * 3).unsqueeze(1), 0.0)
    assert outside.count_nonzero() == 0 and gradient.count_nonzero() > 0


@every_loss
def test_what_lies_outside_changes_nothing(loss):
    student, teacher = maps()
    mask = corners([(4, 5), (7, 2), (1, 3)])
    clean = value_and_gradient(loss, student, teacher, mask=mask)
    noise = 1e3 * torch.randn(student.shape, generator=torch.Generator().manual_seed(5)) * ~mask.unsqueeze(1)
    noisy = value_and_gradient(loss, (student + noise).detach().requires_grad_(), teacher - noise, mask=mask)
    torch.testing.assert_close(noisy, clean)
    assert not torch.allclose(loss(student + noise, teacher - noise), loss(student, teacher))


@pytest.mark.parametrize('loss', PER_IMAGE.values(), ids=PER_IMAGE)
def test_each_image_has_a_size_of_its_own(loss):
    student, teacher = maps()
    sizes = [(4, 5), (7, 2), (3, 3)]
    value, gradient = value_and_gradient(loss, student, teacher, mask=corners(sizes))

    def one_by_one(features):
        crops = [
            (features[image : image + 1, :, :rows, :columns], teacher[image : image + 1, :, :rows, :columns])
            for image, (rows, columns) in enumerate(sizes)
        ]
        return torch.stack([loss(*crop) for crop in crops]).mean()

    expected, by_image = value_and_gradient(one_by_one, student)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, by_image, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('loss', POOLED.values(), ids=POOLED)
def test_the_positions_of_all_images_make_one_table(loss):
    student, teacher = maps()
    mask = corners([(4, 5), (7, 2), (3, 3)])
    value, gradient = value_and_gradient(loss, student, teacher, mask=mask)

    def as_one_image(features):
        rows = [feature.movedim(1, -1)[mask].T[None, :, None] for feature in (features, teacher)]
        return loss(*rows)

    expected, by_table = value_and_gradient(as_one_image, student)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, by_table, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(('loss', 'share'), SHARES.values(), ids=SHARES)
def test_an_image_without_any_position_adds_zero(loss, share):
    student, teacher = maps()
    sizes = [(4, 5), (0, 0), (3, 3)]
    value, gradient = value_and_gradient(loss, student, teacher, mask=corners(sizes))
    kept = corners([sizes[0], sizes[2]])
    rest = loss(student[[0, 2]], teacher[[0, 2]], mask=kept)
    torch.testing.assert_close(value, rest * share)
    assert gradient[1].count_nonzero() == 0 and gradient.isfinite().all()


@every_loss
def test_without_any_position_at_all_the_loss_is_zero(loss):
    student, teacher = maps()
    value, gradient = value_and_gradient(loss, student, teacher, mask=torch.zeros(3, 7, 6, dtype=torch.bool))
    assert value.item() == 0 and gradient.count_nonzero() == 0


@every_loss
def test_a_mask_of_another_shape_is_refused(loss):
    student, teacher = maps()
    with pytest.raises(ValueError, match=r'mask \(3, 6, 7\) must have shape \(3, 7, 6\)'):
        loss(student, teacher, mask=torch.ones(3, 6, 7, dtype=torch.bool))


def test_a_pair_of_images_is_compared_on_the_positions_of_both():
    student, teacher = maps(images=2)
    sizes = [(4, 5), (3, 3)]
    value, gradient = value_and_gradient(cross_image_divergence, student, teacher, mask=corners(sizes))

    def by_pair(features):
        rows = [
            [torch.nn.functional.normalize(x[n, :, :h, :w].flatten(1), dim=0) for n, (h, w) in enumerate(sizes)]
            for x in (features, teacher)
        ]
        terms = []
        for a in range(2):
            for b in range(2):
                own, other = ((side[a].T @ side[b] / 0.1).log_softmax(dim=1) for side in rows)
                terms.append((other.exp() * (other - own)).sum(dim=1).mean())
        return sum(terms) / 4

    expected, written_out = value_and_gradient(by_pair, student)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, written_out, rtol=1e-4, atol=1e-6)


def test_statistics_of_channels_are_those_of_the_positions_inside():
    teacher, avatar = maps()[1], maps()[0].detach()
    mask = corners([(4, 5), (7, 2), (0, 0)])
    rows = [feature.movedim(1, -1)[mask] for feature in (teacher, avatar)]
    torch.testing.assert_close(channel_statistics(teacher, mask), channel_statistics(rows[0]))
    torch.testing.assert_close(avatar_uncertainty(teacher, avatar, mask=mask), avatar_uncertainty(*rows))
    torch.testing.assert_close(avatar_weights(teacher, [avatar] * 2, mask=mask), torch.ones(2))
    assert batch_standardise(teacher, mask).masked_fill(mask.unsqueeze(1), 0.0).count_nonzero() == 0
    assert [x.tolist() for x in channel_statistics(teacher, torch.zeros_like(mask))] == [[0.0] * 5] * 2


def test_the_switch_looks_inside_alone():
    student, teacher = (feature.detach() for feature in maps())
    labels, mask = labels_like(teacher), corners([(4, 5), (7, 2), (0, 0)])
    rows = [feature.movedim(1, -1)[mask] for feature in (student, teacher)]
    torch.testing.assert_close(
        switch_threshold(student, teacher, labels, 2.0, mask), switch_threshold(*rows, labels[mask], 2.0)
    )


def test_an_ensemble_is_made_position_by_position():
    logits, labels = [feature.detach() for feature in maps()], labels_like(maps()[1])
    noise = 1e3 * ~corners([(4, 5), (7, 2), (1, 3)])
    for combine in (naive_ensemble, minimum_ensemble):
        inside = combine(logits, labels).movedim(1, -1)[noise == 0]
        assert torch.equal(combine([z + noise.unsqueeze(1) for z in logits], labels).movedim(1, -1)[noise == 0], inside)


def test_what_lies_outside_is_not_turned_away():
    # no attention at all in the lower third, so the border is 0, as is the attention outside
    feature = torch.ones(1, 2, 2, 3)
    feature[..., 0] = 0.0
    mask = corners([(2, 2)], height=2, width=3)
    moved = diversity_target(feature, mask) - feature
    assert moved[..., 2].count_nonzero() == 0 and moved[..., 0].count_nonzero() == 4
