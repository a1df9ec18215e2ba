"""AttentionTransfer: compares maps of any numbers of channels without a connector."""

import pytest
import torch

from mmadm.losses import AttentionTransfer
from mmadm.structures import Kind, PairContext


def test_channels_may_differ():
    loss = AttentionTransfer()
    student = torch.tensor([3.0, 4.0]).sqrt().view(1, 1, 1, 2)  # attention (3, 4)
    teacher = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 2, 1, 2)  # attention (1, 0)
    connector = loss.connector(1, 2)
    assert list(connector.parameters()) == []
    assert loss(connector(student), teacher).item() == pytest.approx((0.16 + 0.64) / 2, rel=1e-5)


def test_tokens_have_positions_too():
    student, teacher = torch.tensor([[[3.0, 4.0]]]).sqrt(), torch.tensor([[[1.0, 0.0]]])
    assert AttentionTransfer()(student, teacher, PairContext(Kind.TOKENS)).item() == pytest.approx(0.4, rel=1e-5)


def test_the_sign_of_a_feature_does_not_matter():
    feature = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert AttentionTransfer()(feature, -feature).item() == 0
    assert AttentionTransfer()(feature, feature.roll(1, dims=3)).item() > 1e-3
