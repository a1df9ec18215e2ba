"""Part: mixed precision with one loss scaler for all roles."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from mmcv.ops import sigmoid_focal_loss
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmadm.bench.gpu_check.detectors import detection_batch
from mmadm.bench.gpu_check.methods import method
from mmadm.bench.gpu_check.networks import Batch, build, segmentation_batch
from mmadm.bench.gpu_check.report import Report, Setting
from mmadm.bench.gpu_check.training import Log, train

STEPS, WARMUP = 20, 6
#: Largest relative deviation of the total loss from float32, the mean over the steps
TOLERANCES = dict(float16=0.02, bfloat16=0.05)


def mixed_precision(setting: Setting, report: Report) -> None:
    """Part: float16 and bfloat16 for a pair of segmentors and a pair of detectors that learn by DML and ADM."""
    for detection in (False, True)[: 1 if setting.tiny else None]:
        made = detection_batch if detection else segmentation_batch
        batches = [made(seed=step % 4) for step in range(WARMUP + 2 if setting.tiny else STEPS)]
        kind = 'RetinaNet' if detection else 'FCN'
        with report.attempt(f'float32, {kind}'):
            right, _, _ = trained(detection, batches, setting.device)
            for dtype in TOLERANCES:
                if detection and dtype == 'bfloat16' and not _focal_loss_takes_bfloat16(setting.device):
                    report.figure(f'{dtype}, {kind}', "mmcv's focal loss has no such kernel: stock cannot, either")
                    continue
                with report.attempt(f'{dtype}, {kind}'):
                    _check(f'{dtype}, {kind}', dtype, detection, batches, right, setting.device, report)


def _focal_loss_takes_bfloat16(device: torch.device) -> bool:
    scores, labels = torch.zeros(1, 1, device=device, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.long)
    try:
        sigmoid_focal_loss(scores, labels.to(device), 2.0, 0.25)
    except (NotImplementedError, RuntimeError):
        return device.type == 'cpu'  # there mmdet computes it with torch
    return True


def _check(
    name: str,
    dtype: str,
    detection: bool,
    batches: list[Batch],
    right: list[Log],
    device: torch.device,
    report: Report,
) -> None:
    logs, scales, (model, wrapper) = trained(detection, batches, device, dtype)
    gaps = [abs(mine['loss'] - theirs['loss']) / theirs['loss'] for mine, theirs in zip(logs, right, strict=True)]
    report.figure(f'{name}: loss against float32', sum(gaps) / len(gaps), '', TOLERANCES[dtype])
    if dtype == 'float16':
        halved = sum(b < a for a, b in pairwise(scales))
        late = sum(b < a for a, b in pairwise(scales[WARMUP:]))
        report.figure(f'{name}: skipped steps after {WARMUP} of {len(batches)}', late, '', 0, f'{halved} in all')
        _overflow(name, model, wrapper, batches[0], report)


def _overflow(name: str, model: nn.Module, wrapper: Any, batch: Batch, report: Report) -> None:
    """Give one parameter of the student an infinite gradient, then go on."""
    weights = [p for p in model.roles['student'].parameters() if p.requires_grad]
    before, scale = [w.clone() for w in weights], wrapper.loss_scaler.get_scale()
    teacher = next(model.roles['teacher'].parameters()).clone()
    handle = weights[0].register_hook(lambda gradient: gradient * float('inf'))
    train(model, [batch], lambda given: model.train_step(given, wrapper))
    handle.remove()
    ratio = wrapper.loss_scaler.get_scale() / scale
    report.check(f'{name}: an overflow halves the scale', ratio == 0.5, f'times {ratio}')
    same = all(torch.equal(a, b) for a, b in zip(before, weights, strict=True))
    report.check(f'{name}: an overflow leaves the weights of its role alone', same)
    moved = not torch.equal(teacher, next(model.roles['teacher'].parameters()))
    report.check(f'{name}: the other role learns from this step', moved)
    train(model, [batch], lambda given: model.train_step(given, wrapper))
    moved = not all(torch.equal(a, b) for a, b in zip(before, weights, strict=True))
    kept = wrapper.loss_scaler.get_scale() == ratio * scale
    report.check(f'{name}: it goes on after an overflow', moved and kept)


def trained(
    detection: bool, batches: list[Batch], device: torch.device, dtype: str | None = None
) -> tuple[list[Log], list[float], tuple[nn.Module, Any]]:
    """Train a pair with an optimiser for each role.

    Args:
        detection: Whether the roles are detectors.
        batches: One for each step.
        device: Where.
        dtype: Of the mixed precision; None for float32.

    Returns:
        The losses and the loss scale of each step; the model and its optimisers.
    """
    model = build(method('adm', detection, dropout=0.0), 'mmdet' if detection else 'mmseg').to(device)
    role = dict(optimizer=dict(type='SGD', lr=0.002 if detection else 0.01, momentum=0.9))
    cfg = dict(constructor='mmadm.RoleOptimWrapperConstructor', student=role, teacher=role)
    if dtype is not None:
        cfg.update(type='AmpOptimWrapper', dtype=dtype)
    wrapper, scales = build_optim_wrapper(model, cfg), []

    def step(batch: Batch) -> dict[str, torch.Tensor]:
        """Make a step and note the scale."""
        losses = model.train_step(batch, wrapper)
        scales.append(wrapper.loss_scaler.get_scale() if dtype is not None else 1.0)
        return losses

    return train(model, batches, step), scales, (model, wrapper)
