"""Backbones that compute their blocks again in the backward pass (``with_cp=True``)."""

from __future__ import annotations

import pytest
import torch
from small_segmentors import batch, distillation, segmentor

from mmadm.utils.errors import ConfigError


def step(at, with_cp):
    """Losses and gradients of one step of two roles with dropout, whose blocks are checkpointed or not."""
    roles = dict(student=segmentor(4, dropout=0.5), teacher=segmentor(8, dropout=0.5))
    for role in roles.values():
        role['backbone']['with_cp'] = with_cp
    model = distillation(roles=roles, distillers=[dict(type='ADM', at=at)])
    torch.manual_seed(0)
    losses = model(**model.data_preprocessor(batch(), True), mode='loss')
    model.parse_losses(losses)[0].backward()
    assert not any(module._forward_hooks for module in model.modules())
    gradients = {name: param.grad for name, param in model.named_parameters() if param.grad is not None}
    return {key: float(value) for key, value in losses.items()}, gradients


@pytest.mark.parametrize('at', ['backbone.layer4', 'backbone.layer2.1', 'feats', 'logits'])
def test_a_tap_behind_a_block_gives_the_same_step(at):
    losses, gradients = step(at, True)
    expected, wanted = step(at, False)
    assert losses == expected and losses['student.loss_consensus'] > 0
    assert gradients.keys() == wanted.keys()
    assert all(torch.equal(gradients[name], value) for name, value in wanted.items())


def test_a_tap_inside_of_a_block_is_refused_and_the_cause_named():
    with pytest.raises(ConfigError, match=r"'backbone.layer4.1.conv2', but nothing learns up to there.*with_cp"):
        step('backbone.layer4.1.conv2', True)
