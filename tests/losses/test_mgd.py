"""MaskedGeneration: its connector learns to make the teacher's features; its options."""

import pytest
import torch

from mmadm.losses import MaskedGeneration
from mmadm.utils.errors import ConfigError


def test_the_connector_learns_what_is_masked():
    torch.manual_seed(0)
    student = torch.randn(2, 3, 8, 8)
    teacher = torch.nn.functional.avg_pool2d(student.repeat(1, 2, 1, 1), 3, stride=1, padding=1)
    loss = MaskedGeneration(mask_ratio=0.3)
    connector = loss.connector(3, 6)
    optimizer = torch.optim.Adam(connector.parameters(), lr=1e-2)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(connector(student), teacher)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert sum(values[-10:]) < 0.5 * sum(values[:10])
    assert all(parameter.grad.abs().max() > 0 for parameter in connector.parameters())


def test_the_ratio_reaches_the_connector():
    torch.manual_seed(0)
    feature = torch.randn(1, 3, 8, 8)
    blocks = [MaskedGeneration(mask_ratio=ratio).connector(3, 3) for ratio in (0.0, 0.9)]
    assert torch.equal(blocks[0](feature), blocks[0].eval()(feature))
    assert not torch.allclose(blocks[1](feature), blocks[1].eval()(feature))


@pytest.mark.parametrize('ratio', [-0.1, 1.0, 65])
def test_a_ratio_out_of_range(ratio):
    with pytest.raises(ConfigError, match=rf'MaskedGeneration.mask_ratio={ratio}'):
        MaskedGeneration(mask_ratio=ratio)
