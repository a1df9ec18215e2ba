"""What the parts of a training step cost, measured in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

#: What a whole step may cost in terms of its parts: with frozen teachers only, and when all roles learn together
OFFLINE_TARGET, ONLINE_TARGET = 1.02, 1.03
#: What it may hold in memory when all roles learn together
MEMORY_TARGET = 1.05
WHOLE = 'whole step'
#: What a method trains beside the roles, such as MGD's generator or FFSD's fusion
OWN = "the method's own modules"


@dataclass(frozen=True)
class Part:
    """One of the things that a whole step is compared with.

    Attributes:
        row: What tables call it.
        role: The role that it is about.
        trains: Whether it is a plain training step of the role alone; else a frozen role's forward pass to its taps.
    """

    row: str
    role: str
    trains: bool


@dataclass(frozen=True)
class Ratio:
    """How many times as much a whole step needs.

    Attributes:
        name: Of what the ratio is.
        value: The ratio.
        target: What it is to stay below; None if nothing is promised.
    """

    name: str
    value: float
    target: float | None = None


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """Time a call, with everything that it started on the device."""
    watch = Stopwatch(device)
    watch.start()
    run()
    watch.stop()
    return watch.total


class Stopwatch:
    """Adds up the time between calls of :meth:`start` and :meth:`stop`, which torch may call as hooks.

    Args:
        device: Where the work is done.

    Attributes:
        total: Milliseconds so far.
    """

    def __init__(self, device: torch.device) -> None:
        self.total = 0.0
        self._device = device
        self._began = 0.0

    def start(self, *_: object) -> None:
        """Start."""
        wait_for(self._device)
        self._began = perf_counter()

    def stop(self, *_: object) -> None:
        """Stop."""
        wait_for(self._device)
        self.total += 1000 * (perf_counter() - self._began)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was told to do; a CPU has already."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def interleave(variants: Iterable[Callable[[int], Mapping[str, float]]], rounds: int) -> dict[str, list[float]]:
    """Measure variants in turn, every other round in the reverse order.

    Args:
        variants: Each takes the number of the round and returns milliseconds by row.
        rounds: How often each is called.

    Returns:
        Milliseconds of all rounds, in their order, by row.
    """
    order = list(variants)
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        for variant in order if number % 2 == 0 else order[::-1]:
            for row, value in variant(number).items():
                found.setdefault(row, []).append(value)
    return found


def time_ratios(times: Mapping[str, Sequence[float]], parts: Sequence[Part], student: str) -> list[Ratio]:
    """Compare whole steps with their parts, round by round.

    Args:
        times: Milliseconds by row and round: ``WHOLE`` and the row of every part.
        parts: The parts.
        student: The role whose plain step counts as the cost of a training without distillation.

    Returns:
        Medians over the rounds: to the student's plain step, to the sum of all parts if there are more, and to this
        sum and the method's own modules if ``OWN`` was measured. The target is that of the sum of all parts.
    """
    (own,) = (part for part in parts if part.role == student)
    found = [Ratio(f'{WHOLE} / {own.row}', median_ratio(times[WHOLE], [times[own.row]]))]
    if len(parts) > 1:
        learners = [part for part in parts if part.trains]
        target = ONLINE_TARGET if len(learners) == len(parts) else OFFLINE_TARGET if learners == [own] else None
        sums = [[part.row for part in parts]]
        if OWN in times:
            sums.append([*sums[0], OWN])
        for rows in sums:
            value = median_ratio(times[WHOLE], [times[row] for row in rows])
            found.append(Ratio(f'{WHOLE} / ({" + ".join(rows)})', value, target if rows is sums[0] else None))
    return found


@dataclass(frozen=True)
class Call:
    """One call of a module in a training step.

    Attributes:
        module: The module.
        inputs: Copies of its arguments, those with a gradient as leaves.
        learns: Whether gradients were enabled.
    """

    module: nn.Module
    inputs: tuple[Any, ...]
    learns: bool

    def repeat(self) -> None:
        """Run it again, forwards and, where it learns, backwards: the gradients of its weights are left there."""
        with torch.set_grad_enabled(self.learns):
            made = self.module(*self.inputs)
        if made.requires_grad:
            made.backward(torch.ones_like(made))
        for given in self.inputs:
            if isinstance(given, Tensor):
                given.grad = None


def calls_of(root: nn.Module, run: Callable[[], object]) -> list[Call]:
    """Record the calls of all innermost modules with weights: convolutions, norms.

    Args:
        root: What holds the modules.
        run: A training step.
    """
    found: list[Call] = []

    def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Keep a call before it runs."""
        learns = torch.is_grad_enabled()
        with torch.no_grad():  # copies: a later module may work in place
            kept = tuple(x.clone().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in inputs)
        found.append(Call(module, kept, learns))

    inner = [m for m in root.modules() if any(True for _ in m.parameters(recurse=False))]
    hooks = [module.register_forward_pre_hook(record) for module in inner]
    run()
    for hook in hooks:
        hook.remove()
    return found


def memory_ratio(memory: Mapping[str, float], parts: Sequence[Part]) -> Ratio:
    """Compare the peak memory of a whole step with the sum over its parts.

    Args:
        memory: Bytes by row.
        parts: The parts.
    """
    rows = ' + '.join(part.row for part in parts)
    target = MEMORY_TARGET if all(part.trains for part in parts) else None
    value = memory[WHOLE] / sum(memory[part.row] for part in parts)
    return Ratio(f'peak memory of {WHOLE} / ({rows})', value, target)


def peak_bytes(run: Callable[[], object], device: torch.device, held: Iterable[Tensor]) -> int:
    """Peak of the memory of all tensors during a call, as if nothing else were in memory.

    Args:
        run: A step; run it once before, so that what it keeps (the state of an optimiser) is there already.
        device: Where it runs. A GPU's allocator is asked; on a CPU torch's profiler adds up the allocations.
        held: Tensors that the step needs and that are there before it: parameters, buffers, state.

    Returns:
        Bytes.
    """
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return sum(storages.values()) + torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == '[memory]']
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return sum(storages.values()) + peak


def held_by(model: nn.Module, optimizers: Iterable[torch.optim.Optimizer] = ()) -> list[Tensor]:
    """Tensors that a model and its optimisers keep between steps."""
    states = [value for optimizer in optimizers for state in optimizer.state.values() for value in state.values()]
    return [*model.parameters(), *model.buffers(), *(value for value in states if isinstance(value, Tensor))]


def median_ratio(whole: Sequence[float], parts: Sequence[Sequence[float]]) -> float:
    """Divide times round by round and return the median: within a round the machine is equally busy.

    Args:
        whole: Milliseconds by round.
        parts: Milliseconds by round of everything that they are divided by the sum of.
    """
    return median(total / sum(row) for total, *row in zip(whole, *parts, strict=True))
