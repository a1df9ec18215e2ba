"""Read what modules inside a network put out, for the time of one forward pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from mmadm.utils.errors import ConfigError


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
    """Read every tensor that a module puts out; see :class:`Tap`."""
    return tensors_of(output)


@dataclass(frozen=True)
class Tap:
    """What to read, and where.

    Attributes:
        paths: Modules to look at; tensors come in the order of the calls.
        read: Picks tensors from a call's positional arguments, keyword arguments and output.
        levels: Which of all the tensors to keep.
    """

    paths: tuple[str, ...]
    read: Callable[[Any, Any, Any], Iterable[Tensor]] = all_outputs
    levels: slice = field(default_factory=lambda: slice(None))


def split_levels(tap: str) -> tuple[str, slice]:
    """Split ``feats[1:4]`` into ``feats`` and the levels 1 to 3; ``feats[0]`` is one level, ``feats`` is all.

    Raises:
        ConfigError: If what stands in the brackets is neither an index nor a range.
    """
    base, bracket, inside = tap.partition('[')
    if not bracket:
        return tap, slice(None)
    found = re.fullmatch(r'(-?\d*)(:?)(-?\d*)\]', inside)
    if not found or not any(found.groups()):
        raise ConfigError(f'tap {tap!r}: levels are chosen by feats[0] or feats[1:4]')
    first, colon, last = found.groups()
    if colon:
        return base, slice(int(first) if first else None, int(last) if last else None)
    return base, slice(int(first), int(first) + 1 or None)


@contextmanager
def _hooked(model: nn.Module, taps: Mapping[str, Tap], use: Callable[[str, Iterable[Tensor]], None]) -> Iterator[None]:
    """Call ``use`` with a tap's name and tensors whenever one of its modules has run in the block."""

    def read(name: str, _module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Hand on what one call of a tapped module gives."""
        use(name, taps[name].read(args, kwargs, output))

    handles = [
        model.get_submodule(path).register_forward_hook(partial(read, name), with_kwargs=True)
        for name, tap in taps.items()
        for path in tap.paths
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def tapped(model: nn.Module, taps: Mapping[str, Tap]) -> Iterator[dict[str, list[Tensor]]]:
    """Collect the tensors of taps while the block runs.

    Hooks live only inside the block: deepcopy (EMA) and compilation stay safe and no feature outlives the step.

    Args:
        model: The network.
        taps: Taps by name.

    Yields:
        Tensors by tap name, in the order of the calls. Filled during the block, cut to the levels at its end.
    """
    collected: dict[str, list[Tensor]] = {name: [] for name in taps}

    def keep(name: str, tensors: Iterable[Tensor]) -> None:
        """Add what one call of a tapped module gives."""
        collected[name].extend(tensors)

    with _hooked(model, taps, keep):
        yield collected
    for name, tap in taps.items():
        collected[name] = collected[name][tap.levels]


@contextmanager
def overwritten(model: nn.Module, taps: Mapping[str, Tap]) -> Iterator[set[str]]:
    """Find the taps whose tensors a later in-place operation changes while the block runs, such as ``ReLU(inplace)``.

    Args:
        model: The network.
        taps: Taps by name.

    Yields:
        Names of such taps; filled at the end of the block.
    """
    found: set[str] = set()
    seen: list[tuple[str, Tensor, int]] = []

    def note(name: str, tensors: Iterable[Tensor]) -> None:
        """Remember in which version a tensor is read."""
        seen.extend((name, tensor, tensor._version) for tensor in tensors)

    with _hooked(model, taps, note):
        yield found
    found.update(name for name, tensor, version in seen if tensor._version != version)
