"""Trainings with a frozen teacher that the guard of teachers accepts or refuses."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from small_segmentors import CLASSES, build, segmentor
from small_trainings import role_config, runner_of

from mmadm.utils.errors import ConfigError


def write_colours(folder: Path) -> Path:
    """Write 32x32 images of one class each, by colour, so that a tiny network learns them within seconds."""
    colours = np.random.default_rng(1).integers(0, 256, (CLASSES, 3))
    for split, number in (('train', 10), ('val', 15)):
        for kind in ('img', 'ann'):
            (folder / kind / split).mkdir(parents=True)
        for index in range(number):
            image = np.broadcast_to(colours[index % CLASSES], (32, 32, 3))
            cv2.imwrite(str(folder / f'img/{split}/{index:02}.png'), image.astype(np.uint8))
            labels = np.full((32, 32), index % CLASSES, dtype=np.uint8)
            cv2.imwrite(str(folder / f'ann/{split}/{index:02}.png'), labels)
    return folder


def untrained(path: Path) -> str:
    """Checkpoint of a teacher with the weights that it was built with."""
    torch.save(dict(state_dict=build(segmentor(8, dropout=0.0)).state_dict()), path)
    return str(path)


def offline(data: Path, checkpoint: object, check: str = 'error', std: float = 58.0, **options) -> Config:
    """Config of a student that learns from a frozen teacher, whose dropout would show moved generators."""
    cfg = role_config(data, iterations=options.pop('iterations', 1), **options)
    teacher = dict(cfg=segmentor(8, dropout=0.5, std=std))
    if checkpoint:
        teacher['checkpoint'] = str(checkpoint)
    cfg.model.update(
        roles=dict(student=segmentor(4, dropout=0.5), teacher=teacher),
        frozen=['teacher'],
        distillers=[dict(type='mmadm.Transfer', source='teacher', learner='student', at='logits',
                         loss=dict(type='KLDivergence', tau=1.0))],
    )  # fmt: skip
    cfg.optim_wrapper.pop('teacher')
    cfg.param_scheduler.pop('teacher')
    cfg.default_hooks.teacher_guard = dict(type='mmadm.TeacherGuardHook', teacher_check=check)
    return cfg


def refused_rank(rank: int, folder: Path) -> None:
    """Be one of two processes whose teacher knows nothing; write down why the training was refused."""
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    cfg = offline(folder / 'data', folder / 'untrained.pth')
    cfg.default_hooks.teacher_guard.batches = 3
    try:
        runner_of(cfg, folder / 'work', launcher='pytorch').train()
    except ConfigError as error:
        (folder / f'rank{rank}.txt').write_text(str(error))
    torch.distributed.destroy_process_group()
