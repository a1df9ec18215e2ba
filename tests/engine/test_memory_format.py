"""Channels-last weights, and the narrow convolutions that must not have them on a CPU."""

from types import SimpleNamespace

import pytest
import torch
from small_segmentors import build, segmentor

from mmadm.engine.hooks import ChannelsLastHook
from mmadm.utils.errors import ConfigError


def test_weights_become_channels_last():
    model = build(segmentor(16))
    ChannelsLastHook().before_train(SimpleNamespace(model=model))
    weight = model.backbone.layer2[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_a_convolution_that_would_crash_is_named():
    model = build(segmentor(8))
    with pytest.raises(ConfigError, match=r'backbone\.layer2\.0\.downsample\.0.* 8 channels'):
        ChannelsLastHook().before_train(SimpleNamespace(model=model))
    assert model.backbone.layer2[0].conv1.weight.is_contiguous()
    model.requires_grad_(False)
    ChannelsLastHook().before_train(SimpleNamespace(model=model))


def test_one_role_has_to_be_a_list_too():
    with pytest.raises(ConfigError, match=r"ChannelsLastHook\.roles='student': must be a list: \['student'\]"):
        ChannelsLastHook(roles='student')
