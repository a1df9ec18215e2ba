"""Parts that train a few steps on a GPU and on the CPU, from the same weights with the same random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn

from mmadm.bench.gpu_check.detectors import FAMILIES, SIZE, detection_batch
from mmadm.bench.gpu_check.draws import CpuDraws
from mmadm.bench.gpu_check.methods import METHODS, family, method
from mmadm.bench.gpu_check.networks import Batch, Config, build, segmentation_batch
from mmadm.bench.gpu_check.report import Report, Setting

STEPS = 5
#: RTMDet's large loss makes it multiply any deviation by five in a step with the rate of the others
LR = dict(rtmdet=5e-5)
#: ReviewKD normalises every level, of which the coarsest of smaller images has one position: of two values BatchNorm
#: keeps the order alone, which rounding may swap
SIZES = dict(reviewkd=(192, 256))
#: Largest deviation of a loss from that of the CPU, see `deviation`
TOLERANCE = 1e-4

Log = dict[str, float]


def segmentation_methods(setting: Setting, report: Report) -> None:
    """Part: every method on segmentors."""
    batches = [segmentation_batch(seed=step) for step in range(2 if setting.tiny else STEPS)]
    for name in METHODS[: 2 if setting.tiny else None]:
        cfg = method(name)
        if cfg is not None:
            compare(f'{name}, FCN', cfg, 'mmseg', batches, setting, report, lr=0.01)


def detection_methods(setting: Setting, report: Report) -> None:
    """Part: every method on detectors."""
    for name in METHODS[: 1 if setting.tiny else None]:
        cfg = method(name, detection=True)
        if cfg is not None:
            size = SIZES.get(name, SIZE)
            batches = [detection_batch(seed=step, size=size) for step in range(2 if setting.tiny else STEPS)]
            compare(f'{name}, detectors', cfg, 'mmdet', batches, setting, report)


def families(names: Sequence[str], setting: Setting, report: Report) -> None:
    """Part: families of detectors with mutual learning and ADM."""
    for name in names[: 1 if setting.tiny else None]:
        batches = [detection_batch(seed=step, masks=name == 'mask') for step in range(2 if setting.tiny else STEPS)]
        with report.attempt(f'config of {name}'):
            cfg, lr = family(name), LR.get(name, 0.002)
            try:
                stock, _ = _deviation(ConfigDict(cfg['roles']['student']), 'mmdet', batches, setting, lr)
            except Exception as error:  # what the toolbox alone cannot do here is no finding about mmadm
                report.figure(f'stock {name} does not train here', f'{type(error).__name__}: {error}')
                continue
            report.figure(f'stock {name}: losses of {len(batches)} steps as on the CPU', stock)
            # matching and sampling amplify rounding, in the toolbox itself, too
            compare(f'adm, {name}', cfg, 'mmdet', batches, setting, report, lr, max(TOLERANCE, 10 * stock))


#: The families but RetinaNet, which has all methods, in two parts that run side by side
first_families = partial(families, list(FAMILIES)[1:7])
other_families = partial(families, list(FAMILIES)[7:])


def compare(
    name: str,
    cfg: Config,
    scope: str,
    batches: list[Batch],
    setting: Setting,
    report: Report,
    lr: float = 0.002,
    tolerance: float = TOLERANCE,
) -> None:
    """Train twice and report the largest deviation of any loss.

    Where the checked device is a CPU, it computes convolutions with other kernels, which round differently, too.

    Args:
        name: What the report calls it.
        cfg: Config of the model.
        scope: Toolbox of its networks.
        batches: One for each step.
        setting: Where to train.
        report: Gets the findings.
        lr: Learning rate.
        tolerance: Largest deviation that is right.
    """
    with report.attempt(f'{name}: losses as on the CPU'):
        most, where = _deviation(cfg, scope, batches, setting, lr)
        report.figure(f'{name}: losses of {len(batches)} steps as on the CPU', most, '', tolerance, where)


def _deviation(cfg: Config, scope: str, batches: list[Batch], setting: Setting, lr: float) -> tuple[float, str]:
    """Largest deviation of a loss from that of the CPU, and where it is."""
    right = losses_of(build(cfg, scope), batches, torch.device('cpu'), lr)
    with other_rounding(setting.device):
        found = losses_of(build(cfg, scope), batches, setting.device, lr)
    return deviation(found, right)


def other_rounding(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU, make it compute as another device would: equal up to rounding."""
    return torch.backends.mkldnn.flags(enabled=False) if device.type == 'cpu' else nullcontext()


def losses_of(model: nn.Module, batches: Iterable[Batch], device: torch.device, lr: float) -> list[Log]:
    """Train a step on each batch, with random numbers that are the same on every device.

    Returns:
        What each step logs, except what only monitors.
    """
    model = model.to(device)
    optimiser = OptimWrapper(torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9))
    torch.manual_seed(1)
    with CpuDraws():
        return train(model, batches, lambda batch: model.train_step(batch, optimiser))


def train(model: nn.Module, batches: Iterable[Batch], step: Callable[[Batch], dict[str, torch.Tensor]]) -> list[Log]:
    """Run steps as iterations 0, 1, ... of a training; returns the losses of each."""
    hub, logs = MessageHub.get_current_instance(), []
    for number, batch in enumerate(batches):
        hub.update_info('iter', number)
        logs.append({key: float(value) for key, value in step(deepcopy(batch)).items() if 'loss' in key})
    hub.update_info('iter', 0)
    return logs


def deviation(found: Iterable[Log], right: Iterable[Log]) -> tuple[float, str]:
    """Largest deviation of any loss in any step, relative to the loss where that is above a tenth, and where it is."""
    worst = (0.0, 'all equal')
    for number, (mine, theirs) in enumerate(zip(found, right, strict=True), start=1):
        if mine.keys() != theirs.keys():
            return float('inf'), f'other losses: {sorted(mine.keys() ^ theirs.keys())}'
        for key, value in theirs.items():
            gap = abs(mine[key] - value) / max(0.1, abs(value))
            worst = max(worst, (gap if gap == gap else float('inf'), f'{key}, step {number}'))
    return worst
