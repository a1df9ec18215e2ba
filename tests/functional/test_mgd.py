"""The distance of generated features: by hand."""

import torch

from mmadm.functional import generation_distance


def test_squares_are_summed_in_an_image_and_averaged_over_images():
    generated, teacher = torch.zeros(2, 3, 4, 5), torch.full((2, 3, 4, 5), 2.0)
    teacher[1] = 0.0
    assert generation_distance(generated, teacher).item() == 4 * 60 / 2
