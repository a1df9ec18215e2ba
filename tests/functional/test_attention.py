"""Attention maps and their distance: by hand and against the published program's figure."""

import math

import pytest
import torch

from mmadm.functional import attention_distance, attention_map


def test_parity_with_the_published_program(golden):
    case = golden('ffsd_attention_loss')
    assert attention_distance(**case.inputs).item() == pytest.approx(case.expected['loss'], rel=1e-4)


def test_the_map_is_the_mean_square_over_channels():
    feature = torch.tensor([1.0, 2.0, -3.0, 4.0]).view(1, 2, 1, 2)
    assert attention_map(feature).tolist() == [[[[5.0, 10.0]]]]
    assert attention_map(feature * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)).tolist() == [[[[5.0, 10.0]]]]


def test_the_distance_by_hand():
    # (3, 4) has direction (0.6, 0.8), (1, 0) its own: (0.4^2 + 0.8^2) / 2; the second image agrees
    x, y = torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [2.0, 2.0]])
    assert attention_distance(x, y).item() == pytest.approx((0.16 + 0.64) / 4, rel=1e-5)


def test_the_scale_of_an_image_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, 1, 4, 5, generator=generator) for _ in range(2))
    scale = torch.tensor([0.01, 100.0]).view(2, 1, 1, 1)
    torch.testing.assert_close(attention_distance(x * scale, y), attention_distance(x, y))
    assert math.isfinite(attention_distance(torch.zeros(1, 1, 2, 2), y[:1, :, :2, :2]).item())


def test_bad_input():
    with pytest.raises(ValueError, match='attention_map'):
        attention_map(torch.zeros(2, 3))
    with pytest.raises(ValueError, match='attention_distance'):
        attention_distance(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3))
