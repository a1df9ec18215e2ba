"""HintMSE: by hand, in half precision, and without regions."""

import pytest
import torch

from mmadm.losses import HintMSE


def test_by_hand():
    assert HintMSE()(torch.zeros(1, 2, 1, 2), torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 2, 1, 2)).item() == 7.5


def test_half_precision_does_not_overflow():
    assert HintMSE()(torch.full((1, 2), 300.0, dtype=torch.float16), torch.zeros(1, 2, dtype=torch.float16)) == 90000


def test_no_regions_give_zero():
    student = torch.zeros(0, 4, requires_grad=True)
    loss = HintMSE()(student, torch.zeros(0, 4))
    loss.backward()
    assert loss.item() == 0 and student.grad.shape == (0, 4)


def test_other_shapes_are_refused_not_broadcast():
    with pytest.raises(ValueError, match='must match'):
        HintMSE()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4))
