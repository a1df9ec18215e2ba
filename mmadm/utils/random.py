"""Random numbers per role, so that one role's dropout never moves another role's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank


@contextmanager
def untouched_generators() -> Iterator[None]:
    """Leave torch's generators (CPU and the current GPU) as they were."""
    # torch.random.fork_rng does the same, but takes longer than a small loss
    cpu, gpu = torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        if gpu is not None:
            torch.cuda.set_rng_state(gpu)


def generator_states() -> tuple[Any, ...]:
    """States of the generators of Python, NumPy and torch (CPU), for :func:`replayed`."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_states(states: tuple[Any, ...]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


@contextmanager
def replayed(states: tuple[Any, ...]) -> Iterator[None]:
    """Draw in the block what was drawn after the states were taken; afterwards go on as if nothing had been drawn."""
    now = generator_states()
    _set_states(states)
    try:
        yield
    finally:
        _set_states(now)


@contextmanager
def role_stream(index: int, iteration: int | None = None) -> Iterator[None]:
    """Give every role but the first a random stream of its own.

    The first role uses the global generator exactly as a stock model would (law 4). Each other stream is seeded from
    the run's seed, the role and the iteration, so nothing about it has to be saved for an exact resume.

    Args:
        index: Position of the role in the config.
        iteration: Training iteration; None while networks are built, when all ranks must draw the same numbers.
    """
    if index == 0:
        yield
        return
    rank, step = (0, 0) if iteration is None else (get_rank(), iteration + 1)
    seed = _stream_start(torch.initial_seed(), index, rank) + step
    with untouched_generators():
        # torch.manual_seed sets these, too, but where no GPU is in use it takes longer than a small loss
        generators = [torch.default_generator]
        if torch.cuda.is_initialized():
            generators.append(torch.cuda.default_generators[torch.cuda.current_device()])
        for generator in generators:
            generator.manual_seed(seed)
        yield


@lru_cache
def _stream_start(run: int, index: int, rank: int) -> int:
    """Seed of a stream before the first iteration; the streams of a run lie far apart."""
    return int(np.random.SeedSequence([run, index, rank]).generate_state(1, np.uint64)[0] >> np.uint64(2))
