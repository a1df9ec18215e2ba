"""Read what modules inside a network put out, for the time of one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn


def tensors_of(output: Any) -> Iterator[Tensor]:
    """Yield the tensors in a module's output: a tensor, or tuples, lists and dicts of such."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for item in output.values():
            yield from tensors_of(item)
    elif isinstance(output, list | tuple):
        for item in output:
            yield from tensors_of(item)


@contextmanager
def tapped(model: nn.Module, paths: Mapping[str, str]) -> Iterator[dict[str, list[Tensor]]]:
    """Collect the outputs of modules while the block runs.

    Hooks live only inside the block: deepcopy (EMA) and compilation stay safe and no feature outlives the step.

    Args:
        model: The network.
        paths: Module path by tap name.

    Yields:
        Tensors by tap name, in the order of the calls. Filled during the block.
    """
    collected: dict[str, list[Tensor]] = {name: [] for name in paths}

    def keep(tensors: list[Tensor], _module: nn.Module, _inputs: Any, output: Any) -> None:
        tensors.extend(tensors_of(output))

    handles = [
        model.get_submodule(path).register_forward_hook(partial(keep, collected[name])) for name, path in paths.items()
    ]
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()
