"""Heat maps and figures of similarity, by hand-computed values."""

import numpy as np
import pytest
import torch

from mmadm.visualization import colour_map, heat_overlay, mean_by_class, relative_weights


def test_colour_map_spans_low_to_high_and_clamps():
    coloured = colour_map(torch.tensor([[-9.0, -1.0, 0.0, 1.0, 9.0]]), -1, 1, 'gray')
    assert coloured.dtype == np.uint8
    # the map has 256 colours; the middle of the range is the 128th
    assert coloured[0].tolist() == [[0] * 3, [0] * 3, [128] * 3, [255] * 3, [255] * 3]


@pytest.mark.parametrize('high', [0.5, 0.4])
def test_colour_map_needs_a_range(high):
    with pytest.raises(ValueError, match=r'low=0\.5'):
        colour_map(torch.zeros(1, 1), 0.5, high)


def test_overlay_mixes_grey_image_and_colours():
    image = np.array([[[30, 60, 90], [0, 0, 255]]], dtype=np.uint8)  # grey 60 and 85
    mixed = heat_overlay(image, torch.tensor([[0.0, 1.0]]), 0, 1, 'gray', opacity=0.25)
    assert mixed.tolist() == [[[45] * 3, [128] * 3]]  # 0.75 * 60, 0.75 * 85 + 0.25 * 255 = 127.5


def test_overlay_resizes_the_map_to_the_image():
    image = np.zeros((2, 4, 3), dtype=np.uint8)
    only_heat = heat_overlay(image, torch.tensor([[0.0, 1.0]]), 0, 1, 'gray', opacity=1)
    # bilinear between pixel centres at 0.5 and 2.5 of four columns: 0, 1/4, 3/4, 1
    assert only_heat[0, :, 0].tolist() == [0, 64, 192, 255]
    assert (only_heat[1] == only_heat[0]).all()


def test_relative_weights_are_multiples_of_uniform_in_row_order():
    weights = relative_weights(torch.tensor([[0.5, 0.375, 0.125, 0.0], [0.25] * 4]), (2, 2))
    assert weights.tolist() == [[[2.0, 1.5], [0.5, 0.0]], [[1.0, 1.0], [1.0, 1.0]]]


def test_mean_by_class_leaves_ignored_pixels_out():
    similarity = torch.tensor([[[0.2, 0.4], [0.6, 1.0]]])
    labels = torch.tensor([[[0, 2], [0, 255]]])
    mean = mean_by_class(similarity, labels, 3)
    assert mean[[0, 2]].tolist() == pytest.approx([0.4, 0.4])
    assert mean[1].isnan()


def test_mean_by_class_resizes_the_map_to_the_labels():
    labels = torch.zeros(1, 2, 4, dtype=torch.long)
    labels[..., 2:] = 1
    # columns 0, 1/4, 3/4, 1 as above
    assert mean_by_class(torch.tensor([[[0.0, 1.0]]]), labels, 2).tolist() == pytest.approx([0.125, 0.875])
