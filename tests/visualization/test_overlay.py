"""Maps laid over images, by hand-computed values."""

import numpy as np
import pytest
import torch

from mmadm.structures import SimilarityMaps
from mmadm.visualization.overlay import (
    SCALES,
    colour_map,
    heat_overlay,
    in_colours,
    similarity_overlays,
    spread_indices,
)


@pytest.mark.parametrize(('length', 'count', 'indices'), [(8, 4, [1, 3, 5, 7]), (3, 1, [1]), (2, 5, [0, 1])])
def test_indices_are_spread(length, count, indices):
    assert spread_indices(length, count) == indices


@pytest.mark.parametrize(
    ('values', 'shown'),
    [
        (torch.tensor([[1, 4], [2, 5], [3, 6]], dtype=torch.uint8), [[3, 2, 1], [6, 5, 4]]),
        (torch.tensor([[7, 200]], dtype=torch.uint8), [[7] * 3, [200] * 3]),
        (torch.tensor([[7, 200], [1, 2]], dtype=torch.uint8), [[7] * 3, [200] * 3]),
        (torch.tensor([[1, 4], [2, 5], [3, 6], [9, 9], [9, 9]], dtype=torch.uint8), [[3, 2, 1], [6, 5, 4]]),
        (torch.tensor([[1.0, 4.0], [2.9, 5.0], [255.0, 6.0]]), [[255, 2, 1], [6, 5, 4]]),
        (torch.tensor([[1000, 61000]], dtype=torch.int32), [[0] * 3, [255] * 3]),
        (torch.tensor([[-1.0, 3.0, 0.0]]), [[0] * 3, [255] * 3, [63] * 3]),
        (torch.tensor([[0.25, 0.75]]), [[0] * 3, [255] * 3]),
        (torch.tensor([[0.5, 0.5]]), [[0] * 3, [0] * 3]),
    ],
    ids=['colours', 'grey', 'two', 'five', 'floats', '16 bits', 'negative', 'reflectances', 'constant'],
)
def test_images_of_any_channels_are_shown(values, shown):
    image = in_colours(values[:, None])
    assert image.dtype == np.uint8
    assert image.tolist() == [shown]


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


def test_each_kind_of_map_has_its_own_colours_and_range():
    image = np.zeros((1, 3, 3), dtype=np.uint8)
    maps = SimilarityMaps(
        'adm', 'student', 'teacher', *(torch.tensor([[row]]) for row in ([-1, 0, 1], [0, 1.5, 3], [3, 9, 0]))
    )
    drawn = similarity_overlays(image, maps)
    shades = {kind: heat_overlay(image, torch.tensor([[0, 0.5, 1]]), 0, 1, SCALES[kind][2]) for kind in SCALES}
    assert (drawn['similarity'] == shades['similarity']).all()
    assert (drawn['consensus'] == shades['consensus']).all()
    assert (drawn['divergence'] == shades['divergence'][:, [2, 2, 0]]).all()
    assert not (drawn['similarity'] == drawn['consensus']).all()
