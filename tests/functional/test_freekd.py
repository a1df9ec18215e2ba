"""FreeKD: the published program's figures, and the bands by hand."""

import pytest
import torch

from mmadm.functional import haar_bands, prompted_band_distance


def test_the_distance_is_that_of_the_published_program(golden):
    case = golden('freekd')
    student = case.inputs['student'].requires_grad_()
    loss = prompted_band_distance(student, case.inputs['teacher'], case.inputs['prompts'])
    loss.backward()
    assert loss.item() == pytest.approx(case.expected['loss'], rel=1e-4)
    torch.testing.assert_close(student.grad, case.expected['student_grad'], rtol=1e-4, atol=1e-6)


def test_bands_by_hand_and_their_energy_is_that_of_the_map():
    low, (details,) = haar_bands(torch.tensor([[1.0, 2.0], [3.0, 5.0]]).view(1, 1, 2, 2), levels=1)
    assert low.item() == 5.5 and details.flatten().tolist() == [-2.5, -1.5, 0.5]
    feature = torch.randn(2, 3, 8, 12)
    low, details = haar_bands(feature, levels=2)
    energy = sum(band.square().sum() for band in [low, *details])
    torch.testing.assert_close(energy, feature.square().sum())
    assert [tuple(band.shape) for band in details] == [(2, 3, 3, 4, 6), (2, 3, 3, 2, 3)]


def test_bad_input():
    with pytest.raises(ValueError, match='prompts'):
        prompted_band_distance(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.zeros(3, 2, 4))
