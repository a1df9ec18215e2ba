"""Part: how many images a second the data loader gives."""

from __future__ import annotations

import os
from time import perf_counter

from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmadm.bench.gpu_check.images import loader, write_images
from mmadm.bench.gpu_check.report import Report, Setting


def throughput(setting: Setting, report: Report) -> None:
    """Part: images of 1024x2048, cropped and distorted as for Cityscapes, by the number of workers."""
    size, crop = ((64, 64), (32, 32)) if setting.tiny else ((1024, 2048), (512, 1024))
    folder = write_images(setting.folder / 'images', 4 if setting.tiny else 16, size)
    transforms = [
        dict(type='RandomResize', scale=size[::-1], ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=crop, cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
    ]
    seconds = 0.2 if setting.tiny else 4.0
    for workers in (0, 1) if setting.tiny else (0, 2, 4, 8, os.cpu_count() or 8):
        with report.attempt(f'data loader, {workers} workers'), DefaultScope.overwrite_default_scope('mmseg'):
            batch = 2 if setting.tiny else 4
            drawn = iter(Runner.build_dataloader(loader(folder, batch, workers, transforms), seed=0))
            for _ in range(1 + workers):  # until every worker runs
                next(drawn)
            began, images = perf_counter(), 0
            while (took := perf_counter() - began) < seconds or not images:
                next(drawn)
                images += batch
            report.figure(f'data loader, {workers} workers', images / took, 'images/s')
            del drawn
