"""Whole trainings on images that a test writes, in this process."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from small_segmentors import CLASSES, segmentor

from mmadm.utils.checkpoint import read_checkpoint
from mmadm.utils.errors import ConfigError, NonFiniteLossError
from mmadm.utils.unwrap import unwrapped

ROOT = Path(__file__).parents[1]
# runners of one process share what is stored under equal names
_number = count()
NAMES = [f'class{index}' for index in range(CLASSES)]


def write_images(folder: Path, train: int = 8, val: int = 3, wrong_label: int | None = None) -> Path:
    """Write 32x32 images of coloured stripes and their labels, in mmseg's folder layout."""
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (CLASSES, 3))
    for split, number in (('train', train), ('val', val)):
        for kind in ('img', 'ann'):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            labels = np.repeat(rng.integers(0, CLASSES, 8), 4)[:, None].repeat(32, axis=1)
            image = palette[labels] + rng.normal(0, 20, (32, 32, 3))
            if wrong_label is not None and index == number - 1:
                labels[0] = wrong_label
            cv2.imwrite(str(folder / f'img/{split}/{index}.png'), image.clip(0, 255).astype(np.uint8))
            cv2.imwrite(str(folder / f'ann/{split}/{index}.png'), labels.astype(np.uint8))
    return folder


def loader(folder: Path, split: str, workers: int, persistent: bool, infinite: bool = True) -> dict:
    """Config of a data loader over the written images, with stock augmentations for training."""
    train = split == 'train'
    augmented = [dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        *(augmented if train else []),
        dict(type='PackSegInputs'),
    ]
    sampler = 'InfiniteSampler' if train and infinite else 'DefaultSampler'
    return dict(
        batch_size=2 if train else 1,
        num_workers=workers,
        persistent_workers=persistent and workers > 0,
        sampler=dict(type=sampler, shuffle=train),
        dataset=dict(
            type='BaseSegDataset',
            data_root=str(folder),
            data_prefix=dict(img_path=f'img/{split}', seg_map_path=f'ann/{split}'),
            img_suffix='.png',
            metainfo=dict(classes=NAMES, palette=[[40 * i, 90, 200 - 40 * i] for i in range(CLASSES)]),
            pipeline=pipeline,
        ),
    )


def stock_config(
    data: Path, iterations: int = 6, val_interval: int = 2, save_interval: int = 2, **loader_options
) -> Config:
    """Config of a stock segmentor with dropout, trained by iteration."""
    options = {'workers': 0, 'persistent': False, **loader_options}
    val = loader(data, 'val', **{k: v for k, v in options.items() if k != 'infinite'})
    return Config(
        dict(
            default_scope='mmseg',
            model=segmentor(dropout=0.5),
            train_dataloader=loader(data, 'train', **options),
            val_dataloader=val,
            test_dataloader=val,
            val_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
            test_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
            # far from its end, where a learning rate of 0 would hide what the last iterations do
            param_scheduler=[dict(type='PolyLR', end=2 * iterations, by_epoch=False)],
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=val_interval),
            val_cfg=dict(type='ValLoop'),
            test_cfg=dict(type='TestLoop'),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
                checkpoint=dict(type='mmadm.RoleCheckpointHook', by_epoch=False, interval=save_interval),
                visualization=dict(type='SegVisualizationHook'),
            ),
            visualizer=dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]),
            log_processor=dict(by_epoch=False, window_size=1),
            env_cfg=dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0)),
            randomness=dict(seed=3),
        )
    )


def role_config(data: Path, iterations: int = 6, role_val: bool = False, **options) -> Config:
    """Config of a student and a teacher with mutual learning, ADM, a connector and an optimiser each."""
    cfg = stock_config(data, iterations, **options)
    cfg.model = dict(
        type='mmadm.Distillation',
        roles=dict(student=segmentor(4, dropout=0.5), teacher=dict(cfg=segmentor(8, dropout=0.5))),
        distillers=[
            dict(type='mmadm.MutualLearning', roles=['student', 'teacher']),
            dict(type='mmadm.ADM', at='backbone.layer4'),
        ],
    )
    cfg.optim_wrapper = dict(
        constructor='mmadm.RoleOptimWrapperConstructor',
        student=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        teacher=dict(optimizer=dict(type='Adam', lr=0.002), clip_grad=dict(max_norm=1.0)),
    )
    cfg.param_scheduler = dict(
        student=[dict(type='PolyLR', end=2 * iterations, by_epoch=False)],
        teacher=[dict(type='LinearLR', end=iterations, by_epoch=False)],
    )
    cfg.val_cfg = dict(type='mmadm.RoleValLoop', role_val=role_val)
    cfg.default_hooks.guard = dict(type='mmadm.NonFiniteGuardHook')
    return cfg


def runner_of(cfg: Config, work_dir: Path, **settings) -> Runner:
    """Build a quiet runner in this process.

    Args:
        cfg: Config; not kept, as formatting its text at every save would take longer than these trainings.
        work_dir: Work dir.
        **settings: Replace entries of the config.
    """
    # runners of one process share what is stored under equal names
    name = f'run{next(_number)}'
    arguments = {**deepcopy(cfg._cfg_dict), 'log_level': 'ERROR', **settings}
    # a Runner takes device_ids for granted, which DDP refuses on a CPU
    kept = dict(work_dir=str(work_dir), model_wrapper_cfg=dict(broadcast_buffers=False, device_ids=None))
    return Runner(**arguments, work_dir=str(work_dir), experiment_name=name, cfg=kept)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint file."""
    return read_checkpoint(path)['state_dict']


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def losses_of(work_dir: Path) -> dict[int, dict[str, float]]:
    """Everything that the newest run in a work dir logged for each training iteration, except times and memory."""
    newest = sorted(work_dir.glob('*/vis_data/scalars.json'))[-1]
    entries = [json.loads(line) for line in newest.read_text().splitlines()]
    left_out = ('time', 'data_time', 'memory')
    return {e['step']: {k: v for k, v in e.items() if k not in left_out} for e in entries if 'loss' in e}


def load_tool(name: str) -> ModuleType:
    """Import a tool, to call its ``main`` in this process."""
    spec = spec_from_file_location(f'tool_{name}', ROOT / 'tools' / f'{name}.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Break(Hook):
    """Ends a training before an iteration, as far as its checkpoints can tell like a kill."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Raise where asked."""
        if runner.iter == self.iteration:
            raise InterruptedError


class SpoilLoss(Hook):
    """Makes a loss of one role NaN in an iteration, on the second rank."""

    def __init__(self, role: str, iteration: int) -> None:
        self.role, self.iteration = role, iteration

    def before_train(self, runner: Runner) -> None:
        """Look for the iteration behind the loss."""
        loss = unwrapped(runner.model).roles[self.role].decode_head.loss_decode
        wrong = float('nan') if get_rank() == 1 else 1.0
        loss.register_forward_hook(lambda _, __, value: value * wrong if runner.iter == self.iteration else None)


def train_rank(rank: int, folder: Path) -> None:
    """Be one of two processes: train in ``whole``; train, break and resume in ``broken``; go on from ``single``.

    Then stop by a loss of the second rank, and find a teacher that has learnt nothing and wrong labels.
    """
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    cfg = role_config(folder / 'data', iterations=5, role_val=True)
    cfg.default_hooks.checkpoint.update(save_best='student/mIoU', max_keep_ckpts=2)
    average = dict(type='mmadm.RoleEMAHook')
    # each rank has its own dropout
    settings = dict(launcher='pytorch', randomness=dict(seed=3, diff_rank_seed=True), custom_hooks=[average])
    runner_of(cfg, folder / 'whole', **settings).train()
    try:
        runner_of(cfg, folder / 'broken', **{**settings, 'custom_hooks': [average, Break(3)]}).train()
    except InterruptedError:
        newest = str(folder / 'broken/iter_2.pth')
        runner_of(cfg, folder / 'broken', resume=True, load_from=newest, **settings).train()
    runner_of(cfg, folder / 'grown', resume=True, load_from=str(folder / 'single/iter_4.pth'), **settings).train()
    spoiled = runner_of(cfg, folder / 'spoiled', **{**settings, 'custom_hooks': [SpoilLoss('teacher', 1)]})
    _write_message(spoiled, NonFiniteLossError, folder / f'spoiled_{rank}.txt')
    weak = role_config(folder / 'data', iterations=5)
    weak.model.update(frozen=['teacher'], distillers=[dict(type='mmadm.SOKD')])
    teacher = dict(cfg=segmentor(4), checkpoint=str(folder / 'whole/iter_5_student.pth'))
    weak.model.roles.update(teacher=teacher, bridge=dict(like='teacher', train=['decode_head']))
    weak.default_hooks.teacher_guard = dict(type='mmadm.TeacherGuardHook')
    weak.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05))
    weak.param_scheduler = []
    _write_message(runner_of(weak, folder / 'weak', **settings), ConfigError, folder / f'weak_{rank}.txt')
    if rank == 0:  # the one that looks at the labels
        cfg.train_dataloader.dataset.data_root = str(write_images(folder / 'wrong', wrong_label=9))
    _write_message(runner_of(cfg, folder / 'refused', **settings), ConfigError, folder / f'refused_{rank}.txt')
    torch.distributed.destroy_process_group()


def _write_message(runner: Runner, expected: type[Exception], path: Path) -> None:
    try:
        runner.train()
    except expected as error:
        path.write_text(str(error))
