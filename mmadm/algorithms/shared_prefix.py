"""Feed a role such as SOKD's bridge with what the frozen role that it copies has computed already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mmadm.adapters.taps import Reading, overwritten
from mmadm.structures import Tap

Outputs = dict[str, list[Any]]


def copied_roles(roles: Mapping[str, Mapping[str, Any]], frozen: Sequence[str]) -> dict[str, str]:
    """Find the roles that start as a frozen one and of which only some modules learn.

    Args:
        roles: The ``roles`` of a config.
        frozen: Names of those that only teach.

    Returns:
        The frozen role's name by theirs. A role with a ``cfg`` or ``checkpoint`` of its own is no copy.
    """
    return {
        name: cfg['like']
        for name, cfg in roles.items()
        if cfg.get('like') in frozen and cfg.get('train') and not {'cfg', 'checkpoint'} & set(cfg)
    }


class Prefix:
    """The part of a role that a frozen one runs, too, on the same input.

    Args:
        source: Name of the frozen role.
        networks: That role's network and the other's, of one architecture.
        paths: Modules whose outputs are taken from the frozen role.
        learning: Modules of the other one that learn.
    """

    def __init__(
        self, source: str, networks: tuple[nn.Module, nn.Module], paths: tuple[str, ...], learning: Sequence[str]
    ) -> None:
        self.source = source
        self.paths = paths
        self._networks = networks
        self._learning = tuple(f'{path}.' for path in learning)
        self._equal: bool | None = None
        for network in networks:
            network.register_load_state_dict_post_hook(self._ask_again)

    def given(self, computed: Mapping[str, Outputs]) -> Outputs:
        """Pick what the role need not run itself.

        Args:
            computed: What :func:`recorded` has yielded, by frozen role.

        Returns:
            Outputs by path; none where the weights differ, as after loading other ones.
        """
        if self._equal is None:  # compared once after loading: nothing moves what does not learn
            self._equal = self._same_weights()
        outputs = computed.get(self.source, {})
        return {path: outputs[path] for path in self.paths if path in outputs} if self._equal else {}

    def _same_weights(self) -> bool:
        theirs, mine = ([*net.named_parameters(), *net.named_buffers()] for net in self._networks)
        pairs = zip(mine, theirs, strict=True)
        return all(torch.equal(a, b) for (name, a), (_, b) in pairs if not name.startswith(self._learning))

    def _ask_again(self, *_: Any) -> None:
        self._equal = None


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


def copy_weights(roles: nn.ModuleDict, copies: Mapping[str, str]) -> None:
    """Let copies start as what they copy, which may have no checkpoint that both have loaded."""
    for name, source in copies.items():
        roles[name].load_state_dict(roles[source].state_dict())


def fed_from(prefixes: Mapping[str, Prefix], source: str) -> set[str]:
    """Modules of a frozen role whose outputs other roles go on from."""
    return {path for prefix in prefixes.values() if prefix.source == source for path in prefix.paths}


def shared_paths(role: nn.Module, run: Callable[[], object], tapped: Sequence[str] = ()) -> tuple[str, ...]:
    """Find the modules that run before anything that learns, so that no weight in training can reach them.

    Left out is what a later module changes in place, such as ``ReLU(inplace)``: its own output is lost when it is kept.

    Args:
        role: A network of which only some modules learn.
        run: Makes a forward pass of it.
        tapped: Modules that have to be there for a tap.

    Returns:
        Paths of the largest modules with weights of which none learns and without a tap inside, in the order of their
        calls.
    """
    parts = dict(_uniform_parts(role, tapped))
    calls: list[tuple[str, bool]] = []
    handles = []
    for path, module in parts.items():
        learns = next(module.parameters()).requires_grad
        # some heads are never called themselves, what is inside of them always is
        for watched in module.modules() if learns else [module]:
            handles.append(watched.register_forward_pre_hook(partial(_note, calls, path, learns)))
    try:
        with overwritten(role, {Tap('', path): Reading((path,)) for path in parts}) as changed:
            run()
    finally:
        for handle in handles:
            handle.remove()
    first = next((number for number, (_, learns) in enumerate(calls) if learns), len(calls))
    apart = {tap.base for tap in changed} | {path for path, _ in calls[first:]}
    return tuple(dict.fromkeys(path for path, _ in calls[:first] if path not in apart))


@contextmanager
def recorded(role: nn.Module, paths: Collection[str]) -> Iterator[Outputs]:
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


def _uniform_parts(role: nn.Module, tapped: Sequence[str], above: str = '') -> Iterator[tuple[str, nn.Module]]:
    """Yield the largest modules without a tap inside whose weights all learn, or all do not; none without weights."""
    for name, module in role.named_children():
        path = f'{above}.{name}' if above else name
        learns = {parameter.requires_grad for parameter in module.parameters()}
        if len(learns) == 1 and not any(tap.startswith(f'{path}.') for tap in tapped):
            yield path, module
        elif learns:
            yield from _uniform_parts(module, tapped, path)


def _note(calls: list[tuple[str, bool]], path: str, learns: bool, *_: Any) -> None:
    """Note that a part was called and whether it learns."""
    calls.append((path, learns))
