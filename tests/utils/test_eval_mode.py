"""Eval mode for a block."""

import pytest
from torch import nn

from mmadm.utils.eval_mode import evaluating


class Strict(nn.Module):
    """Freezes again what somebody thawed, as stock backbones do, whenever the mode is set by ``train()``."""

    def __init__(self):
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm2d(1), nn.Dropout()

    def train(self, mode=True):
        self.norm.requires_grad_(False)
        return super().train(mode)


def test_every_part_gets_its_own_mode_back_even_after_an_error():
    network = nn.Sequential(Strict(), nn.Dropout())
    network[0].norm.eval()
    with pytest.raises(KeyError), evaluating(network):
        assert not any(part.training for part in network.modules())
        raise KeyError
    assert [part.training for part in network.modules()] == [True, True, False, True, True]
    assert network[0].norm.weight.requires_grad
