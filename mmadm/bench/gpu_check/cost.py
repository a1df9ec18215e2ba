"""Parts: milliseconds and memory of a training step at real size, beside those of its parts."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import count

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from torch import nn

from mmadm.adapters import build_adapter
from mmadm.bench.gpu_check.clock import milliseconds, peak_gib
from mmadm.bench.gpu_check.large import PSPNET, RETINANET, Task, batches, learner, load
from mmadm.bench.gpu_check.networks import Batch
from mmadm.bench.gpu_check.report import Report, Setting
from mmadm.bench.measured_models import Learner
from mmadm.structures import Tap
from mmadm.utils.export import role_config

TIMES, WARMUP = 12, 4


def segmentation_cost(setting: Setting, report: Report) -> None:
    """Part: PSPNet."""
    cost(PSPNET, setting, report)


def detection_cost(setting: Setting, report: Report) -> None:
    """Part: RetinaNet."""
    cost(RETINANET, setting, report)


def cost(task: Task, setting: Setting, report: Report) -> None:
    """Measure plain steps of both networks and the frozen teacher's forward pass, then every method.

    As a training does with stock settings: TF32 in convolutions only.

    Args:
        task: Networks and configs.
        setting: Where, how large and how long.
        report: Gets milliseconds, memory and ratios.
    """
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    torch.backends.cudnn.benchmark = task is PSPNET  # as the toolboxes' configs say
    data = batches(task, setting.tiny, 4)
    parts: dict[str, float] = {}
    both = load(task, 'adm', setting.tiny)
    stock = {role: role_config(both, role) for role in ('student', 'teacher')}
    for role, cfg in stock.items():
        name = f'{task.name}: plain step of {role}'
        with report.attempt(name):
            parts[role] = measure(name, learner(task, cfg, setting.device), data, setting, report)
    name = f'{task.name}: the student as the only role'
    with report.attempt(name):
        cfg = deepcopy(stock['student'])
        cfg.model = ConfigDict(type='mmadm.Distillation', roles=dict(student=cfg.model))
        found = measure(name, learner(task, cfg, setting.device), data, setting, report)
        report.figure(f'{name} / (its plain step)', found / parts['student'], 'times')
    names = ['kd'] if setting.tiny else list(task.configs)
    for name in names:
        if report.seconds > 0.9 * setting.seconds:
            report.figure(f'{task.name}: {name}', 'no time left')
            continue
        with report.attempt(f'{task.name}: {name}'):
            _method(task, name, data, parts, setting, report)
        if setting.device.type == 'cuda':
            torch.cuda.empty_cache()


def _method(
    task: Task, name: str, data: list[Batch], parts: dict[str, float], setting: Setting, report: Report
) -> None:
    whole = learner(task, load(task, name, setting.tiny), setting.device)
    if name == 'kd':
        with report.attempt(f'{task.name}: forward pass of the frozen teacher'):
            parts['prefix'] = _prefix(task, whole.model, data, setting, report)
    found = measure(f'{task.name}: {name}', whole, data, setting, report)
    sums = {
        'ffsd': ('3 plain steps of the student', ['student'] * 3),
        'adm': ('both plain steps', ['student', 'teacher']),
        'dml': ('both plain steps', ['student', 'teacher']),
        'sokd': ('the plain step of the student', ['student']),
    }
    against, needed = sums.get(name, ('plain step of the student + forward pass of the teacher', ['student', 'prefix']))
    if all(part in parts for part in needed):
        report.figure(f'{task.name}: {name} / ({against})', found / sum(parts[part] for part in needed), 'times')


def _prefix(task: Task, model: nn.Module, data: list[Batch], setting: Setting, report: Report) -> float:
    """Time the frozen teacher as a step of KD runs it."""
    adapter, network = build_adapter('teacher', model.roles['teacher']), model.roles['teacher']
    given = model.data_preprocessor(deepcopy(data[0]), True)
    inputs, samples = given['inputs']['teacher'], given['data_samples']['teacher']
    name = f'{task.name}: forward pass of the frozen teacher'
    return _told(
        name, lambda _: adapter.features(network, inputs, [Tap('teacher', 'logits')], samples), setting, report
    )


def measure(name: str, learning: Learner, data: list[Batch], setting: Setting, report: Report) -> float:
    """Time training steps and note their peak memory.

    Args:
        name: What the report calls it.
        learning: The model.
        data: Batches, taken in turn.
        setting: Where and how large.
        report: Gets milliseconds and GiB.

    Returns:
        Milliseconds.
    """
    iteration = count()

    def step(number: int) -> None:
        """Train on a copy of a batch, as its samples are edited; the copy is made in time that a GPU computes."""
        MessageHub.get_current_instance().update_info('iter', next(iteration))
        learning.step(deepcopy(data[number % len(data)]))

    return _told(name, step, setting, report)


def _told(name: str, run: Callable[[int], object], setting: Setting, report: Report) -> float:
    times, warmup = (2, 1) if setting.tiny else (TIMES, WARMUP)
    found = milliseconds(run, setting.device, times, warmup)
    memory = peak_gib(lambda: run(0), setting.device)
    report.figure(name, found, 'ms', note=f'peak {memory:.2f} GiB')
    return found
