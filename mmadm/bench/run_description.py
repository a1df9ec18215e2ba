"""What is known about a benchmark run before it starts: its model, config, versions and revision."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import warnings
from importlib import metadata

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from torch import nn

from mmadm.adapters.blank_image import blank_image
from mmadm.bench.records import Record
from mmadm.bench.suites import ROOT
from mmadm.registry import MODELS
from mmadm.utils.scope import use_scope


def describe(method: str, cfg: Config) -> Record:
    """Arguments of a :class:`~mmadm.bench.jobs.Job`; builds the model once, so that a broken config fails here.

    Args:
        method: Name of the method in its suite; a plain network's begins with the name of its role.
        cfg: The method's config, shortened or not.
    """
    use_scope(cfg.get('default_scope'))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the training tells them again
        model = MODELS.build(cfg.model)
    stock_role = 'teacher' if method.startswith('teacher') else 'student'
    stock = not hasattr(model, 'trainable')
    roles = {stock_role: model} if stock else dict(model.roles.items())
    deploy = stock_role if stock else model.deploy
    same_images = cfg.test_dataloader == cfg.val_dataloader
    dataset = (cfg.val_dataloader if same_images else cfg.test_dataloader).dataset
    return {
        'stock': stock,
        'roles': (stock_role,) if stock else tuple(model.trainable),
        'tests': not same_images,
        'facts': {
            'revision': revision(),
            'versions': versions(),
            'device': torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU ({platform.machine()})',
            'config_sha': fingerprint(cfg),
            'deploy': deploy,
            'split': dataset.get('ann_file') or dataset.data_prefix.img_path,
            'parameters': {role: sum(p.numel() for p in net.parameters()) for role, net in roles.items()},
            'flops': flops(roles[deploy], size_of_test_images(cfg)),
        },
    }


def revision() -> str | None:
    """What git calls the checkout; outside of one, or without git, what ``MMADM_REVISION`` says."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=10']
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        found = ''
    return found or os.environ.get('MMADM_REVISION')


def flops(network: nn.Module, size: tuple[int, int] | None) -> float | None:
    """Multiply-adds of a prediction for one image as mmengine counts them; None if the size is not known.

    Args:
        network: A stock segmentor or detector.
        size: Height and width of the image in pixels.
    """
    if size is None:
        return None
    network = revert_sync_batchnorm(network).eval()
    # what get_model_complexity_info does, without a warning for each kind of operation that counts nothing
    counter = FlopAnalyzer(network, blank_image(network, size)).unsupported_ops_warnings(False)
    return float(counter.uncalled_modules_warnings(False).total())


def size_of_test_images(cfg: Config) -> tuple[int, int] | None:
    """Height and width to which a config's test pipeline brings images; None if it leaves them as they are."""
    steps = cfg.test_dataloader.dataset.get('pipeline') or []
    scales = [step['scale'] for step in steps if step['type'] == 'Resize' and 'scale' in step]
    return (scales[0][1], scales[0][0]) if scales else None


def fingerprint(cfg: Config) -> str:
    """Hash of a config; where the data and the ImageNet weights lie does not count."""
    text = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
    for root in set(re.findall(r'"data_root": "([^"]+)"', text)):
        text = text.replace(f'"{root}/', '"')  # annotation files of evaluators
    if weights := os.environ.get('MMADM_WEIGHTS'):
        text = text.replace(f'"{weights}/', '"weights/')  # the default of configs/_base_/models/camvid.py
    return hashlib.sha256(re.sub(r'"data_root": "[^"]*"', '', text).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of what decides the figures."""
    toolboxes = ['mmengine', 'mmcv', 'mmsegmentation', 'mmdet']
    packages = [*toolboxes, 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation', 'onedl-mmdetection']
    # torch itself names its build, such as +cu124, where its distribution does not
    found = {'python': platform.python_version(), 'torch': torch.__version__}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
