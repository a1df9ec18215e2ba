"""Read what modules inside a network put out, for the time of one forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from mmadm.structures import Kind, Size, Tap


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


def all_outputs(_args: Any, _kwargs: Any, output: Any) -> Iterable[Tensor]:
    """Read every tensor that a module puts out; see :class:`Reading`."""
    return tensors_of(output)


def maps_first(_args: Any, _kwargs: Any, output: Any) -> Iterable[Tensor]:
    """Read the maps of a backbone or neck, without the class token that a transformer may add to each; else all."""
    found = list(tensors_of(output))
    maps = [tensor for tensor in found if tensor.dim() == 4]
    return maps or found


@dataclass(frozen=True)
class Reading:
    """What to read of a network for a tap, and what it is.

    Attributes:
        paths: Modules to look at; tensors come in the order of the calls.
        read: Picks tensors from a call's positional arguments, keyword arguments and output.
        kind: What the tensors are; None if their shape says it.
    """

    paths: tuple[str, ...]
    read: Callable[[Any, Any, Any], Iterable[Tensor]] = all_outputs
    kind: Kind | None = None


@contextmanager
def _hooked(
    model: nn.Module, readings: Mapping[Tap, Reading], use: Callable[[Tap, Iterable[Tensor]], None]
) -> Iterator[None]:
    """Call ``use`` with a tap and its tensors whenever one of its modules has run in the block."""

    def read(tap: Tap, _module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Hand on what one call of a tapped module gives."""
        use(tap, readings[tap].read(args, kwargs, output))

    handles = [
        model.get_submodule(path).register_forward_hook(partial(read, tap), with_kwargs=True)
        for tap, reading in readings.items()
        for path in reading.paths
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def tapped(model: nn.Module, readings: Mapping[Tap, Reading]) -> Iterator[dict[Tap, list[Tensor]]]:
    """Collect the tensors of taps while the block runs.

    Hooks live only inside the block: deepcopy (EMA) and compilation stay safe and no feature outlives the step.

    Args:
        model: The network.
        readings: What to read, by tap.

    Yields:
        Tensors by tap, in the order of the calls. Filled during the block, cut to the tap's levels at its end.
    """
    collected: dict[Tap, list[Tensor]] = {tap: [] for tap in readings}

    def keep(tap: Tap, tensors: Iterable[Tensor]) -> None:
        """Add what one call of a tapped module gives."""
        collected[tap].extend(tensors)

    with _hooked(model, readings, keep):
        yield collected
    for tap in readings:
        collected[tap] = collected[tap][tap.first : tap.stop]


@contextmanager
def overwritten(model: nn.Module, readings: Mapping[Tap, Reading]) -> Iterator[set[Tap]]:
    """Find the taps whose tensors a later in-place operation changes while the block runs, such as ``ReLU(inplace)``.

    Args:
        model: The network.
        readings: What to read, by tap.

    Yields:
        Such taps; filled at the end of the block.
    """
    found: set[Tap] = set()
    seen: list[tuple[Tap, Tensor, int]] = []

    def note(tap: Tap, tensors: Iterable[Tensor]) -> None:
        """Remember in which version a tensor is read."""
        seen.extend((tap, tensor, tensor._version) for tensor in tensors)

    with _hooked(model, readings, note):
        yield found
    found.update(tap for tap, tensor, version in seen if tensor._version != version)


def stride_of(size: Size, padded: Size, known: tuple[float, float] | None = None) -> tuple[float, float]:
    """Pixels (rows, columns) from one position of a map to the next.

    Args:
        size: Height and width of the map.
        padded: Height and width of the input.
        known: What a dry run found; used where it explains the size, as a network of stride 32 makes 4 rows of 101.
    """
    found = []
    for axis in (0, 1):
        cells, pixels = size[axis], padded[axis]
        guess = known[axis] if known else float(round(pixels / cells))
        fits = guess > 0 and cells in (math.ceil(pixels / guess), math.floor(pixels / guess))
        found.append(guess if fits else pixels / cells)
    return found[0], found[1]
