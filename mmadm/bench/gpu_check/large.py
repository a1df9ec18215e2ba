"""Networks at the size of the papers: the configs of this repository, without data and without trained weights."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmadm.bench.gpu_check.detectors import detection_batch
from mmadm.bench.gpu_check.detectors import detector as small_detector
from mmadm.bench.gpu_check.networks import Batch, segmentation_batch, segmentor
from mmadm.bench.measured_models import Learner, built
from mmadm.utils.config import read_config, role_model_cfg, without_pretrained

ROOT = Path(__file__).parents[3] / 'configs'
SEGMENTATION, DETECTION = 'pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024', 'retinanet_r101_r50_fpn'


@dataclass(frozen=True)
class Task:
    """What is measured.

    Attributes:
        name: Of the networks and the size.
        scope: The toolbox.
        configs: Files of the methods, most valuable first.
    """

    name: str
    scope: str
    configs: dict[str, str]


def _listed(**files: str) -> dict[str, str]:
    return {name: f'{path}.py' for name, path in files.items()}


PSPNET = Task(
    'PSPNet R101-R18, 512x1024',
    'mmseg',
    _listed(
        adm=f'adm/adm_{SEGMENTATION}',
        dml=f'baselines/dml_{SEGMENTATION}',
        kd=f'baselines/kd_{SEGMENTATION}',
        akd=f'akd/akd_cwd_{SEGMENTATION}',
        cwd=f'baselines/cwd_{SEGMENTATION}',
        sokd=f'sokd/sokd_{SEGMENTATION}',
        ffsd='ffsd/ffsd_pspnet_r18-d8_4xb2-80k_cityscapes-512x1024',
        mgd=f'baselines/mgd_{SEGMENTATION}',
    ),
)
RETINANET = Task(
    'RetinaNet R101-R50, 800x1333',
    'mmdet',
    _listed(
        adm=f'adm/adm_{DETECTION}_1x_coco',
        dml=f'baselines/dml_{DETECTION}_1x_coco',
        kd=f'baselines/kd_{DETECTION}_1x_coco',
        akd=f'akd/akd_cwd_{DETECTION}_2x_coco',
        cwd=f'baselines/cwd_{DETECTION}_1x_coco',
        sokd=f'sokd/sokd_{DETECTION}_2x_coco',
        ffsd='ffsd/ffsd_retinanet_r50_fpn_1x_coco',
        mgd=f'baselines/mgd_{DETECTION}_1x_coco',
    ),
)


def load(task: Task, method: str, tiny: bool) -> Config:
    """Read a method's config and make it need no files.

    Args:
        task: The networks.
        method: Name of the method.
        tiny: Whether roles become so small that a CPU trains them in no time.
    """
    cfg = read_config(ROOT / task.configs[method])
    for name, role in cfg.model.roles.items():
        if 'like' in role:
            continue
        role.pop('checkpoint', None)
        width = 8 if name == 'teacher' else 4
        small = segmentor(width) if task is PSPNET else small_detector(width=width)
        network = small if tiny else without_pretrained(role_model_cfg(role))
        cfg.model.roles[name] = dict(cfg=network)
        if 'train' in role:
            cfg.model.roles[name]['train'] = role.train
    if tiny:
        for role in cfg.model.roles.values():  # the small segmentors have no such head
            if task is PSPNET and 'train' in role:
                role.train = [path for path in role.train if path != 'auxiliary_head']
    return cfg


def batches(task: Task, tiny: bool, number: int) -> list[Batch]:
    """Random batches of two images of the task's size."""
    if task is PSPNET:
        size, classes = ((64, 64), 5) if tiny else ((512, 1024), 19)
        return [segmentation_batch(2, seed, size, classes) for seed in range(number)]
    size, classes = ((96, 128), 3) if tiny else ((800, 1333), 80)
    return [detection_batch(2, seed, size, classes, objects=7) for seed in range(number)]


def learner(task: Task, cfg: Config, device: torch.device) -> Learner:
    """Build a config's model with its optimisers, none of which moves a weight, as random networks could run away."""
    with DefaultScope.overwrite_default_scope(task.scope):
        model, wrapper = built(cfg, deepcopy(cfg.model), device, cfg.get('custom_hooks'))
    open_residuals(model)
    return Learner(model, wrapper)


def open_residuals(model: nn.Module) -> None:
    """Let the residual branches count that a network starts with switched off: a deep one would compute nothing."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
            with torch.no_grad():
                module.weight.masked_fill_(module.weight == 0, 0.2)
