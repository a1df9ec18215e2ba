"""Milliseconds and memory of a training step of a config, by part, beside plain training of each role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import nn

from mmadm.adapters import build_adapter
from mmadm.algorithms.frozen import lowered, teacher_precision
from mmadm.algorithms.role_runner import wanted_taps
from mmadm.bench.measured_models import Learner, alone, built, load_batches, whole_model
from mmadm.bench.time_and_memory import (
    OWN,
    WHOLE,
    Part,
    Ratio,
    Stopwatch,
    calls_of,
    held_by,
    interleave,
    memory_ratio,
    milliseconds,
    peak_bytes,
    time_ratios,
)
from mmadm.structures import Tap
from mmadm.utils.errors import ConfigError
from mmadm.utils.scope import use_scope

ROUNDS = 60
LOSSES, OPTIMISER = 'losses of the distillers, in it', 'optimiser, in it'


@dataclass
class Costs:
    """What was measured.

    Attributes:
        milliseconds: By row and round.
        memory: Peak in bytes by row, for the parts and the whole step.
        ratios: Of a whole step to its parts.
        device: Where it ran.
    """

    milliseconds: dict[str, list[float]]
    memory: dict[str, int]
    ratios: list[Ratio]
    device: str


def measure(cfg: Config, rounds: int) -> Costs:
    """Measure a config's training step and its parts side by side in this process.

    Every role starts from the same weights alone and together; nothing is learned.

    Args:
        cfg: Config of an ``mmadm.Distillation``.
        rounds: Rounds; one more comes before, in which nothing is measured.

    Raises:
        ConfigError: If the config trains a stock model, or there are no rounds.
    """
    if 'roles' not in cfg.model:
        raise ConfigError('cost compares the roles of an mmadm.Distillation, but the model of this config has none')
    if rounds < 1:
        raise ConfigError(f'--iterations={rounds}: need at least 1')
    use_scope(cfg.get('default_scope'))
    torch.backends.cudnn.benchmark = cfg.get('env_cfg', {}).get('cudnn_benchmark', False)
    device = torch.device(get_device())
    batches = load_batches(cfg)
    whole = Learner(*built(cfg, whole_model(cfg), device, cfg.get('custom_hooks')))
    parts, runs, held = parts_of(cfg, whole.model, device, batches)
    runs[WHOLE], held[WHOLE] = plain_step(whole, batches), whole
    variants = [timed(row, prepare, device) for row, prepare in runs.items()]
    if any(True for _ in whole.model.connectors.parameters()):
        variants.append(timed(OWN, own_modules(whole, batches), device))
    variants.append(lambda number: watched_step(whole, batches[number % len(batches)], device))
    interleave(variants, 1)
    memory = {
        row: peak_bytes(prepare(0), device, held_by(h.model, h.optimizers) if isinstance(h, Learner) else held_by(h))
        for (row, prepare), h in zip(runs.items(), held.values(), strict=True)
    }
    times = interleave(variants, rounds)
    ratios = [*time_ratios(times, parts, whole.model.deploy), memory_ratio(memory, parts)]
    return Costs(times, memory, ratios, device_name(device))


def parts_of(
    cfg: Config, model: nn.Module, device: torch.device, batches: list[dict[str, Any]]
) -> tuple[list[Part], dict[str, Callable[[int], Callable[[], object]]], dict[str, Learner | nn.Module]]:
    """What every role would do without the others: the parts, and by row how to run it and what it holds."""
    parts, runs, held = [], {}, {}
    for role, network in model.roles.items():
        if role in model.trainable:
            plain = alone(cfg, role, network, device)
            parts.append(Part(f'plain step of {role}', role, True))
            runs[parts[-1].row], held[parts[-1].row] = plain_step(plain, batches), plain
        elif taps := wanted_taps(model.distillers.values()).get(role):
            parts.append(Part(f'forward pass of {role}', role, False))
            runs[parts[-1].row], held[parts[-1].row] = prefix(cfg, model, role, taps, batches), network
    return parts, runs, held


def device_name(device: torch.device) -> str:
    """What a reader wants to know of it."""
    return (
        torch.cuda.get_device_name() if device.type == 'cuda' else f'{device.type}, {torch.get_num_threads()} threads'
    )


def plain_step(learner: Learner, batches: list[dict[str, Any]]) -> Callable[[int], Callable[[], object]]:
    """Training steps of a model, each the iteration of its number; the copying of the batch is not part of them."""

    def prepare(number: int) -> Callable[[], object]:
        """Copy the batch of a number; returns the step."""
        batch = deepcopy(batches[number % len(batches)])
        return lambda: learner.step(batch)

    return prepare


def own_modules(learner: Learner, batches: list[dict[str, Any]]) -> Callable[[int], Callable[[], object]]:
    """What a method trains beside the roles, as in a training step of the first batch, and its share of the optimisers.

    The losses between these modules are not part of it.
    """
    model = learner.model
    calls = calls_of(model.connectors, plain_step(learner, batches)(0))
    own = set(model.connectors.parameters())
    optimizers = []
    for optimizer in learner.optimizers:
        params = [p for group in optimizer.param_groups for p in group['params'] if p in own]
        if params:
            optimizers.append(type(optimizer)(params, **{**optimizer.defaults, 'lr': 0.0}))

    def run() -> None:
        """Repeat the noted calls, then step the optimisers of their weights."""
        with learner.wrapper.optim_context(model):
            for call in calls:
                call.repeat()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return lambda number: run


def prefix(
    cfg: Config, model: nn.Module, role: str, taps: list[Tap], batches: list[dict[str, Any]]
) -> Callable[[int], Callable[[], object]]:
    """Forward passes of a frozen role to its last tap; the preparation of the images is not part of them."""
    adapter, network = build_adapter(role, model.roles[role]), model.roles[role]
    dtype = teacher_precision(cfg.model.get('teacher_dtype'))

    def prepare(number: int) -> Callable[[], object]:
        """Prepare the images of a batch; returns the pass."""
        data = model.data_preprocessor(deepcopy(batches[number % len(batches)]), True)
        inputs, samples = data['inputs'][role], data['data_samples'][role]

        def run() -> None:
            """Run the role to its last tap."""
            with torch.no_grad(), lowered(dtype, inputs.device):  # as a training runs it
                adapter.features(network, inputs, taps, samples)

        return run

    return prepare


def timed(
    row: str, prepare: Callable[[int], Callable[[], object]], device: torch.device
) -> Callable[[int], Mapping[str, float]]:
    """A variant for :func:`~mmadm.bench.time_and_memory.interleave` with one row."""
    return lambda number: {row: milliseconds(prepare(number), device)}


def watched_step(whole: Learner, batch: dict[str, Any], device: torch.device) -> dict[str, float]:
    """Make a whole step in which the distillers and the optimisers are timed; waiting for them slows it on a GPU."""
    batch = deepcopy(batch)
    losses, optimiser = Stopwatch(device), Stopwatch(device)
    hooks = []
    for distiller in whole.model.distillers.values():
        hooks += [distiller.register_forward_pre_hook(losses.start), distiller.register_forward_hook(losses.stop)]
    for optimizer in whole.optimizers:
        hooks += [optimizer.register_step_pre_hook(optimiser.start), optimizer.register_step_post_hook(optimiser.stop)]
    whole.step(batch)
    for hook in hooks:
        hook.remove()
    return {LOSSES: losses.total, OPTIMISER: optimiser.total}
