"""Random numbers that are the same on every device, so that a GPU can be compared with a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten
_DRAWS = {
    getattr(aten, name)
    for name in (
        'bernoulli bernoulli_ exponential_ multinomial normal normal_ rand rand_like randint randint_like randn '
        'randn_like randperm random random_ uniform_'
    ).split()
}


class CpuDraws(TorchDispatchMode):
    """Draws every random number in the block on the CPU and brings it to where it is wanted."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answer a draw; let everything else pass."""
        kwargs = dict(kwargs or {})
        if func.overloadpacket is aten.native_dropout:
            return _dropout(*args)
        if func.overloadpacket not in _DRAWS:
            return func(*args, **kwargs)
        return _drawn_on_cpu(func, args, kwargs)


def _drawn_on_cpu(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in args if isinstance(value, Tensor)]
    device = kwargs.get('device') or (tensors[0].device if tensors else torch.device('cpu'))
    if kwargs.get('device') is not None:
        kwargs['device'] = torch.device('cpu')
    if kwargs.get('generator') is not None:
        # mmadm's generators draw once each, so that their seed says everything
        kwargs['generator'] = torch.Generator().manual_seed(kwargs['generator'].initial_seed())
    kwargs.pop('pin_memory', None)
    result = func(*tree_map(_to_cpu, tuple(args)), **kwargs)
    if func._schema.name.endswith('_'):
        return args[0].copy_(result)
    return result.to(device)


def _dropout(given: Tensor, p: float, training: bool | None = True) -> tuple[Tensor, Tensor]:
    """What a GPU does in one kernel, with the numbers that a CPU would draw."""
    if not training:
        return given, torch.ones_like(given, dtype=torch.bool)
    kept = torch.empty(given.shape).bernoulli_(1 - p).to(given.device)
    return given * (kept / (1 - p)).to(given.dtype), kept.bool()


def _to_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value
