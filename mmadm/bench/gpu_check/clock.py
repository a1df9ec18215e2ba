"""How long something takes on a device, and how much memory it needs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from time import perf_counter

import torch


def milliseconds(run: Callable[[int], object], device: torch.device, times: int, warmup: int) -> float:
    """Median time of calls that follow each other without a pause, as in a training.

    A GPU notes the end of each call itself, by CUDA events, so that nothing waits for it in between.

    Args:
        run: Takes the number of the call.
        device: Where the work is done.
        times: Calls that are measured.
        warmup: Calls before them.
    """
    for number in range(warmup):
        run(number)
    if device.type != 'cuda':
        stamps = [perf_counter()]
        for number in range(times):
            run(warmup + number)
            stamps.append(perf_counter())
        return median(1000 * (after - before) for before, after in pairwise(stamps))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]
    events[0].record()
    for number, event in enumerate(events[1:]):
        run(warmup + number)
        event.record()
    torch.cuda.synchronize(device)
    return median(before.elapsed_time(after) for before, after in pairwise(events))


def peak_gib(run: Callable[[], object], device: torch.device) -> float:
    """Peak memory of all tensors during a call in GiB, with what was there before; 0 on a CPU."""
    if device.type != 'cuda':
        run()
        return 0.0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) / 2**30
