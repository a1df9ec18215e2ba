"""What every loss keeps: figures of half precision input, empty input, errors that name the function."""

import pytest
import torch

from mmadm.functional import (
    attention_distance,
    attention_map,
    binary_kl_divergence,
    channel_wise_divergence,
    cross_image_divergence,
    decoupled_kl,
    dist_distance,
    distribution_divergence,
    fgd_attention_distance,
    fgd_feature_distance,
    focal_binary_divergence,
    generation_distance,
    hierarchical_distance,
    kl_divergence,
    masked_distance,
    mean_squared_distance,
    memory_divergence,
    pearson_distance,
    prompted_band_distance,
)
from mmadm.functional.common import image_mean, valid_mean

LOSSES = {
    'kl_divergence': kl_divergence,
    'binary_kl_divergence': binary_kl_divergence,
    'channel_wise_divergence': channel_wise_divergence,
    'pearson_distance': pearson_distance,
    'dist_distance': dist_distance,
    'dist_distance, sigmoid': lambda s, t: dist_distance(s, t, binary=True),
    'decoupled_kl': lambda s, t: decoupled_kl(s, t, torch.ones(s.shape[0], *s.shape[2:], dtype=torch.long)),
    'attention_distance': attention_distance,
    'generation_distance': generation_distance,
    'mean_squared_distance': mean_squared_distance,
    'focal_binary_divergence': focal_binary_divergence,
    'distribution_divergence': distribution_divergence,
    'hierarchical_distance': hierarchical_distance,
    'fgd_attention_distance': fgd_attention_distance,
    'fgd_feature_distance': lambda s, t: 1e-3 * sum(fgd_feature_distance(s, t, *[t[:, 0] * 0 + 1] * 2)),
    'cross_image_divergence': cross_image_divergence,
    'memory_divergence': lambda s, t: memory_divergence(s, t, torch.eye(3)),
    'prompted_band_distance': lambda s, t: prompted_band_distance(s, t, torch.ones(2, 1, 3)),
    'masked_distance': lambda s, t: masked_distance(s, t, torch.full_like(t[:, :2], 0.5)),
}
every_loss = pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)


@every_loss
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    generator = torch.Generator().manual_seed(0)
    # squares of 300 are beyond float16, and bfloat16 has 8 bits
    student, teacher = (300 * torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    student, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)
    found = loss(student, teacher)
    found.backward()
    assert found.dtype == torch.float32 and student.grad.isfinite().all()
    torch.testing.assert_close(found, loss(student.float(), teacher.float()))


@every_loss
def test_empty_input_gives_zero_and_zero_gradients(loss):
    # a module before the loss, as DDP waits for the gradient of each parameter
    scale = torch.ones(3, 1, 1, requires_grad=True)
    found = loss(torch.zeros(0, 3, 4, 5) * scale, torch.zeros(0, 3, 4, 5))
    found.backward()
    assert found.item() == 0 and found.shape == ()
    assert scale.grad.tolist() == torch.zeros(3, 1, 1).tolist()


@pytest.mark.parametrize('name', ['kl_divergence', 'binary_kl_divergence', 'dist_distance', 'dist_distance, sigmoid',
                                  'decoupled_kl'])  # fmt: skip
def test_losses_of_logits_take_an_empty_list_of_regions(name):
    student = torch.zeros(0, 4, requires_grad=True)
    LOSSES[name](student, torch.zeros(0, 4)).backward()
    assert student.grad.shape == (0, 4)


@every_loss
def test_equal_maps_have_no_distance(loss):
    same = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    assert loss(same, same.clone()).item() == pytest.approx(0, abs=2e-6)
    assert loss(same, same.flip(3)).item() > 1e-2


@every_loss
def test_other_shapes_are_refused(loss):
    with pytest.raises(ValueError, match='must match'):
        loss(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 6))


def test_an_attention_map_squares_in_float32():
    assert attention_map(torch.full((1, 2, 1, 1), 300.0, dtype=torch.float16)).item() == 90000


def test_mean_over_valid_positions():
    values = torch.tensor([[1.0, 2.0], [3.0, 100.0]])
    mask = torch.tensor([[True, True], [True, False]])
    assert valid_mean('f', values, mask).item() == 2
    assert valid_mean('f', values).item() == 26.5
    assert valid_mean('f', values, torch.zeros(2, 2)).item() == 0
    with pytest.raises(ValueError, match=r'f: mask \(2,\) must have shape \(2, 2\)'):
        valid_mean('f', values, mask[0])


def test_mean_over_the_positions_of_each_image():
    values = torch.tensor([[1.0, 2.0], [3.0, 100.0], [7.0, 7.0]])
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    assert image_mean(values, mask).item() == (1.5 + 3 + 0) / 3
    assert image_mean(values).item() == 20
    assert image_mean(values[:0]).item() == image_mean(values[:0], mask[:0]).item() == 0
