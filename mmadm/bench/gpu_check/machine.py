"""Part: what the machine is."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from importlib.util import find_spec

import torch

from mmadm.bench.gpu_check.report import Report, Setting


def machine(setting: Setting, report: Report) -> None:
    """Part: the card and the versions; a wheel without its configs is found here."""
    if setting.device.type == 'cuda':
        card = torch.cuda.get_device_properties(setting.device)
        report.figure('card', card.name, note=f'{card.total_memory / 2**30:.0f} GiB, {card.major}.{card.minor}')
        report.figure('cuDNN', str(torch.backends.cudnn.version()))
        report.check('a kernel runs', bool((torch.ones(3, device=setting.device) * 2).sum().item() == 6))
    report.figure('Python, processors', f'{platform.python_version()}, {os.cpu_count()}')
    report.figure('torch', torch.__version__)
    for package in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmadm'):
        with report.attempt(package):
            report.figure(package, import_module(package).__version__)
    for package in ('mmdet', 'mmseg'):
        spec = find_spec(package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        found = any(os.path.isdir(os.path.join(folder, '.mim/configs')) for folder in folders)
        report.check(f'{package} has its configs', found)
