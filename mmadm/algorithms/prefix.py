"""Feed a role such as SOKD's bridge with what the frozen role that it copies has computed already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

Outputs = dict[str, list[Any]]


@dataclass(frozen=True)
class Prefix:
    """The part of a role that another one runs, too, with the same weights and the same input.

    Attributes:
        source: The frozen role that runs it.
        paths: Modules whose outputs are taken from there.
    """

    source: str
    paths: tuple[str, ...]


class Replay(nn.Module):
    """Stands in for a module whose outputs are known.

    Args:
        outputs: What its calls return, in order.
    """

    def __init__(self, outputs: Sequence[Any]) -> None:
        super().__init__()
        self._outputs = iter(outputs)

    def forward(self, *_args: Any, **_kwargs: Any) -> Any:
        """Return the next output, whatever goes in."""
        return next(self._outputs)


def shared_paths(role: nn.Module, run: Callable[[], object]) -> tuple[str, ...]:
    """Find the modules that run before anything that learns, so that no weight in training can reach them.

    Args:
        role: A network of which only some modules learn.
        run: Makes a forward pass of it.

    Returns:
        Paths of the largest modules with weights of which none learns, in the order of their calls.
    """
    calls: list[tuple[str, bool]] = []
    handles = []
    for path, module in _uniform_parts(role):
        learns = next(module.parameters()).requires_grad
        # some heads are never called themselves, what is inside of them always is
        for watched in module.modules() if learns else [module]:
            handles.append(watched.register_forward_pre_hook(partial(_note, calls, path, learns)))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    first = next((number for number, (_, learns) in enumerate(calls) if learns), len(calls))
    late = {path for path, _ in calls[first:]}
    return tuple(dict.fromkeys(path for path, _ in calls[:first] if path not in late))


@contextmanager
def recorded(role: nn.Module, paths: Sequence[str]) -> Iterator[Outputs]:
    """Keep what modules put out while the block runs.

    Args:
        role: The network.
        paths: Its modules.

    Yields:
        Outputs by path, one for each call.
    """
    outputs: Outputs = {path: [] for path in paths}

    def keep(path: str, _module: nn.Module, _args: Any, output: Any) -> None:
        """Add the output of a call."""
        outputs[path].append(output)

    handles = [role.get_submodule(path).register_forward_hook(partial(keep, path)) for path in paths]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def replayed(role: nn.Module, outputs: Mapping[str, Sequence[Any]], dtype: torch.dtype | None) -> Iterator[None]:
    """Let modules give out what was recorded while the block runs; the network is whole again afterwards.

    Args:
        role: The network.
        outputs: What :func:`recorded` has yielded for a network that is equal in these modules; one that was not
            called there runs here.
        dtype: Precision that the outputs are brought to; None leaves them as they are.
    """

    def cast(value: Any) -> Any:
        """Bring a tensor of a lower precision to the role's own."""
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    known = {path: list(calls) for path, calls in outputs.items() if calls}
    originals = {path: role.get_submodule(path) for path in known}
    try:
        for path, calls in known.items():
            role.set_submodule(path, Replay(calls if dtype is None else tree_map(cast, calls)))
        yield
    finally:
        for path, module in originals.items():
            role.set_submodule(path, module)


def _uniform_parts(role: nn.Module, above: str = '') -> Iterator[tuple[str, nn.Module]]:
    """Yield the largest modules whose weights all learn, or all do not; what has no weight is left out."""
    for name, module in role.named_children():
        path = f'{above}.{name}' if above else name
        learns = {parameter.requires_grad for parameter in module.parameters()}
        if len(learns) == 1:
            yield path, module
        elif learns:
            yield from _uniform_parts(module, path)


def _note(calls: list[tuple[str, bool]], path: str, learns: bool, *_: Any) -> None:
    """Note that a part was called and whether it learns."""
    calls.append((path, learns))
