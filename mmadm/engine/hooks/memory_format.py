"""Channels-last weights."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmadm.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Stores weights channels-last, which convolutions on CPUs and on GPUs with AMP prefer; results do not change."""

    def before_train(self, runner: Runner) -> None:
        """Convert the model, after a checkpoint was loaded."""
        runner.model.to(memory_format=torch.channels_last)
