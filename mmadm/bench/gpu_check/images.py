"""Images and labels on disk, for what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmadm.bench.gpu_check.networks import CLASSES

Config = dict[str, Any]


def write_images(folder: Path, number: int, size: tuple[int, int]) -> Path:
    """Write blurred random images and their labels.

    Args:
        folder: Gets the folders ``img`` and ``ann``.
        number: Images.
        size: Height and width.
    """
    rng = np.random.default_rng(0)
    for kind in ('img', 'ann'):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index in range(number):
        coarse = rng.integers(0, CLASSES, (size[0] // 8, size[1] // 8))
        labels = coarse.repeat(8, 0).repeat(8, 1).astype(np.uint8)
        image = 40 * labels[..., None] + rng.integers(0, 40, (*labels.shape, 3))
        cv2.imwrite(str(folder / f'img/{index}.png'), image.astype(np.uint8))
        cv2.imwrite(str(folder / f'ann/{index}.png'), labels)
    return folder


def loader(folder: Path, batch_size: int, workers: int, transforms: list[Config]) -> Config:
    """Config of a data loader over the written images.

    Args:
        folder: Where they are.
        batch_size: Images of a batch.
        workers: Processes that read.
        transforms: Between loading and packing.
    """
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *transforms, dict(type='PackSegInputs')]
    names = [f'class{index}' for index in range(CLASSES)]
    return dict(
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        dataset=dict(
            type='mmseg.BaseSegDataset',
            data_root=str(folder),
            data_prefix=dict(img_path='img', seg_map_path='ann'),
            img_suffix='.png',
            metainfo=dict(classes=names, palette=[[40 * index, 90, 200 - 40 * index] for index in range(CLASSES)]),
            pipeline=pipeline,
        ),
    )
