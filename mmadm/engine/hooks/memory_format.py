"""Channels-last weights."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmadm.registry import HOOKS
from mmadm.utils.errors import ConfigError

#: With fewer input channels the CPU backward of a strided 1x1 convolution in channels-last corrupts memory (torch 2.13)
_FEWEST_CHANNELS = 12


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Stores weights channels-last, which convolutions on CPUs and on GPUs with AMP prefer; results do not change."""

    def before_train(self, runner: Runner) -> None:
        """Convert the model, after a checkpoint was loaded.

        Raises:
            ConfigError: On a CPU, if a convolution is so narrow that its backward would crash.
        """
        for name, module in runner.model.named_modules():
            if not isinstance(module, nn.Conv2d) or module.weight.device.type != 'cpu':
                continue
            strided = module.kernel_size == (1, 1) and module.stride != (1, 1)
            if strided and module.in_channels < _FEWEST_CHANNELS and module.weight.requires_grad:
                raise ConfigError(
                    f'custom_hooks: mmadm.ChannelsLastHook cannot be used on a CPU with {name}, a strided 1x1 '
                    f'convolution of {module.in_channels} channels (fewer than {_FEWEST_CHANNELS}), whose backward '
                    'crashes; remove the hook'
                )
        runner.model.to(memory_format=torch.channels_last)
