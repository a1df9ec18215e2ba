"""Trainings that may only differ by rounding, however their batches are split.

GroupNorm instead of BatchNorm, because the statistics of a batch depend on how it is split; no dropout, because each
rank draws its own. Every label map has equally many ignored positions, because the losses are means over the valid
ones: only means over equally many positions average to the mean over all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from small_segmentors import batch, segmentor
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmadm.utils.unwrap import unwrapped

Weights = dict[str, Tensor]
Run = dict[str, Weights]

#: parts of the model that are compared each on its own
PARTS = ('roles.student', 'roles.teacher', 'connectors')
#: mutual learning plus ADM; the widths differ, so the student learns a connector
DISTILLATION = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(segmentor(4, dropout=0.0, norm='GN'), _scope_='mmseg'),
        teacher=dict(segmentor(8, dropout=0.0, norm='GN'), _scope_='mmseg'),
    ),
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher']),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='backbone.layer4', divergence=0.1),
    ],
)


def sgd(lr: float, **kwargs) -> dict:
    """Config of one SGD. Not Adam, which turns the rounding errors of tiny gradients into whole steps."""
    return dict(optimizer=dict(type='SGD', lr=lr, momentum=0.9), **kwargs)


def per_role(student: dict, teacher: dict) -> dict:
    """Config of one optimiser per role."""
    return dict(constructor='mmadm.RoleOptimWrapperConstructor', student=student, teacher=teacher)


class Scenes(Dataset):
    """Twelve different images."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict:
        return {key: values[0] for key, values in batch(1, seed=index).items()}


def trained(model: nn.Module) -> Weights:
    """Copy of every parameter by name."""
    return {name: param.detach().clone() for name, param in model.named_parameters()}


def gap(found: Weights, right: Weights, start: Weights, part: str) -> float:
    """How far two trainings ended apart, relative to how far the right one moved, over one part of the model."""
    names = [name for name in start if name.startswith(part)]
    moved = _norm(right[name] - start[name] for name in names)
    assert moved > 1e-3, f'{part} hardly moved, so this would prove nothing'
    return _norm(found[name] - right[name] for name in names) / moved


def _norm(tensors: Iterable[Tensor]) -> float:
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


class Snapshots(Hook):
    """Keeps the weights before training and the gradients that an accumulating first iteration leaves."""

    def __init__(self) -> None:
        self.taken: Run = {}

    def before_train(self, runner: Runner) -> None:
        self.taken['start'] = trained(unwrapped(runner.model))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if batch_idx == 0:
            params = unwrapped(runner.model).named_parameters()
            self.taken['gradients'] = {name: p.grad.clone() for name, p in params if p.grad is not None}


def run(work_dir: Path, optim_wrapper: dict, batch_size: int, launcher: str = 'none', counts: int = 1) -> Run:
    """Train for three updates in a real Runner, whose sampler deals the same images to the ranks in turn."""
    snapshots = Snapshots()
    runner = Runner(
        model=DISTILLATION,
        work_dir=str(work_dir),
        experiment_name=work_dir.as_posix().replace('/', '_'),
        train_dataloader=dict(dataset=Scenes(), batch_size=batch_size, sampler=dict(type='InfiniteSampler')),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=3 * counts),
        optim_wrapper=dict(optim_wrapper, accumulative_counts=counts),
        default_hooks=dict(checkpoint=None),
        custom_hooks=[snapshots],
        default_scope='mmseg',
        randomness=dict(seed=0),
        log_level='ERROR',
        launcher=launcher,
        # a Runner takes device_ids for granted, which DDP refuses on a CPU
        cfg=dict(model_wrapper_cfg=dict(broadcast_buffers=False, device_ids=None), work_dir=str(work_dir)),
    )
    runner.train()
    return {**snapshots.taken, 'end': trained(unwrapped(runner.model))}


def run_rank(rank: int, folder: Path, optim_wrappers: dict[str, dict]) -> None:
    """Be one of two processes; writes ``rank<rank>.pth`` with all runs by name."""
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    runs = {}
    for name, optim_wrapper in optim_wrappers.items():
        runs[name] = run(folder / name / str(rank), optim_wrapper, 2, 'pytorch')
        runs[f'{name}, accumulating'] = run(folder / name / f'{rank}_accumulating', optim_wrapper, 1, 'pytorch', 2)
    # without launcher the Runner wraps no DDP: the same images as above, but nothing is exchanged
    runs['apart'] = run(folder / 'apart' / str(rank), optim_wrapper, 2)
    torch.save(runs, folder / f'rank{rank}.pth')
    torch.distributed.destroy_process_group()
