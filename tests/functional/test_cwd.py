"""Channel-wise divergence: by hand, published figures, and what it is blind to."""

import math

import pytest
import torch

from mmadm.functional import channel_wise_divergence


@pytest.mark.parametrize('name', ['cwd_tau1', 'cwd_tau4'])
def test_parity_with_the_published_program(golden, name):
    case = golden(name)
    assert channel_wise_divergence(**case.inputs, **case.params).item() == pytest.approx(
        case.expected['loss'], rel=1e-4
    )


def test_by_hand():
    # two channels of two positions: (0.75, 0.25) against (0.5, 0.5), and equal
    teacher = torch.tensor([math.log(3.0), 0.0, 1.0, 2.0]).view(1, 2, 1, 2)
    student = torch.tensor([0.0, 0.0, 1.0, 2.0]).view(1, 2, 1, 2)
    by_channel = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert channel_wise_divergence(student, teacher).item() == pytest.approx(by_channel / 2, rel=1e-5)
    assert channel_wise_divergence(2 * student, 2 * teacher, tau=2.0).item() == pytest.approx(2 * by_channel, rel=1e-5)


def test_the_offset_of_a_channel_does_not_matter_its_scale_does():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    loss = channel_wise_divergence(student, teacher)
    torch.testing.assert_close(channel_wise_divergence(student + torch.randn(2, 3, 1, 1), teacher - 7), loss)
    assert channel_wise_divergence(2 * student, teacher) > 1.1 * loss


def test_bad_input():
    with pytest.raises(ValueError, match='at least 3 dimensions'):
        channel_wise_divergence(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match='channel_wise_divergence: tau'):
        channel_wise_divergence(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), tau=-1)
