"""Normalisation of connectors: statistics of what is image alone."""

import torch
from torch import nn

from mmadm.modules.norms import normalised


def test_only_images_count_and_the_rest_is_0():
    feature = torch.full((2, 1, 2, 3), 99.0)
    feature[0, 0, :, :2] = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    feature[1, 0, :1, :1] = 9.0
    norm = nn.BatchNorm2d(1, eps=1e-9)
    found = normalised(norm, feature, [(2, 2), (1, 1)])
    # mean 5, squares 16, 4, 0, 4, 16: 8
    expected = torch.tensor([-4.0, -2.0, 0.0, 0.0, 2.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0]) / 8**0.5
    torch.testing.assert_close(found.flatten(), expected[[0, 1, 3, 2, 4, 5, 6, 7, 8, 9, 10, 11]])
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.5]))


def test_without_padding_it_is_the_stock_one():
    feature = torch.randn(2, 3, 4, 5)
    ours, stock = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    assert torch.equal(normalised(ours, feature), stock(feature))
    torch.testing.assert_close(normalised(ours, feature, [(4, 5)] * 2), stock(feature))
