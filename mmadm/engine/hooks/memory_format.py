"""Channels-last weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmadm.registry import HOOKS
from mmadm.utils.errors import ConfigError, near_matches, require_list
from mmadm.utils.unwrap import unwrapped

#: With fewer input channels the CPU backward of a strided 1x1 convolution in channels-last corrupts memory (torch 2.13)
_FEWEST_CHANNELS = 12


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Stores weights channels-last, which convolutions on CPUs and on GPUs with AMP prefer; results do not change.

    Args:
        roles: Only these roles of a distillation; by default the whole model.

    Raises:
        ConfigError: If ``roles`` is a string.
    """

    def __init__(self, roles: Sequence[str] | None = None) -> None:
        require_list('custom_hooks: mmadm.ChannelsLastHook.roles', roles)
        self.roles = roles

    def before_train(self, runner: Runner) -> None:
        """Convert the weights, after a checkpoint was loaded.

        Raises:
            ConfigError: If there is no such role; on a CPU, if a convolution is so narrow that its backward would
                crash.
        """
        parts = self._parts(unwrapped(runner.model))
        for part in parts:
            for name, module in part.named_modules():
                self._check(name, module)
        for part in parts:
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own types lack it

    def _parts(self, model: nn.Module) -> list[nn.Module]:
        if self.roles is None:
            return [model]
        known = getattr(model, 'roles', {})
        for role in self.roles:
            if role not in known:
                raise ConfigError(f'custom_hooks: mmadm.ChannelsLastHook.roles: {role!r}; {near_matches(role, known)}')
        return [known[role] for role in self.roles]

    @staticmethod
    def _check(name: str, module: nn.Module) -> None:
        if not isinstance(module, nn.Conv2d) or module.weight.device.type != 'cpu':
            return
        strided = module.kernel_size == (1, 1) and module.stride != (1, 1)
        if strided and module.in_channels < _FEWEST_CHANNELS and module.weight.requires_grad:
            raise ConfigError(
                f'custom_hooks: mmadm.ChannelsLastHook cannot be used on a CPU with {name}, a strided 1x1 '
                f'convolution of {module.in_channels} channels (fewer than {_FEWEST_CHANNELS}), whose backward '
                'crashes; remove the hook or name the other roles in its `roles`'
            )
