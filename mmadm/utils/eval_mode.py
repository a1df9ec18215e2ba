"""Run a network beside its training without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in eval for the block; afterwards every part has the mode that it had.

    Flags are set one by one, because ``train()`` of stock backbones also freezes stages again.

    Args:
        module: A network, or part of one.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def as_in_training(module: nn.Module) -> Iterator[None]:
    """Let modules made of others act as in training for the block: some put out other levels there, such as DDRNet.

    What is torch's own, or innermost and no convolution (it normalises, or drops), is in eval: a single image has no
    statistics. A convolution of a toolbox acts as what is around it: that of TridentNet has more branches in training.
    Afterwards every mode and buffer is what it was.

    Args:
        module: A network in the mode that is meant.
    """
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    inner = [(part, part.training) for part in module.modules() if _normalises_or_drops(part)]
    try:
        for part, _ in inner:
            part.training = False
        yield
    finally:
        for part, mode in inner:
            part.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _normalises_or_drops(part: nn.Module) -> bool:
    """Whether a module may be one that does: every one of torch, and others without parts, except convolutions."""
    if type(part).__module__.startswith('torch.'):
        return True
    convolves = any(parameter.dim() > 2 for parameter in part.parameters()) and not any(True for _ in part.buffers())
    return not convolves and not any(True for _ in part.children())
