"""Part: how often a training step waits for the device, beside stock steps."""

from __future__ import annotations

from copy import deepcopy

import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn

from mmadm.bench.gpu_check.detectors import detection_batch
from mmadm.bench.gpu_check.methods import METHODS, method
from mmadm.bench.gpu_check.networks import Batch, build, segmentation_batch
from mmadm.bench.gpu_check.report import Report, Setting
from mmadm.bench.gpu_check.waits import Places, waits

#: What mmadm itself may wait for: one number of a step
ALLOWED = ('_stop_if_not_finite',)


def synchronisation(setting: Setting, report: Report) -> None:
    """Part: the second step of each method, the first makes what is made once."""
    for detection in (False, True):
        kind = 'RetinaNet' if detection else 'FCN'
        for name in METHODS[: 2 if setting.tiny else None]:
            cfg = method(name, detection)
            if cfg is None:
                continue
            with report.attempt(f'{name}, {kind}: waits'):
                places = waits_of_step(cfg, detection, setting.device)
                stock = 0
                for role, network in cfg['roles'].items():
                    if role not in cfg.get('frozen', ()) and 'like' not in network:
                        stock += waits_of_step(network, detection, setting.device).total()
                report.figure(
                    f'{name}, {kind}: waits of a step', places.total(), note=f'{stock} in stock steps of its roles'
                )
                mine = own(places)
                told = ', '.join(f'{place} x{number}' for place, number in mine.items())
                report.check(f"{name}, {kind}: nothing of mmadm's waits but the finite check", not mine, told)


def own(places: Places) -> Places:
    """Waits that stand in mmadm itself, the allowed ones apart."""
    return Places(
        {
            place: number
            for place, number in places.items()
            if place.startswith('mmadm/') and not place.startswith('mmadm/bench/') and not place.endswith(ALLOWED)
        }
    )


def waits_of_step(cfg: dict, detection: bool, device: torch.device) -> Places:
    """Waits in the second training step of a model, alone or of several roles."""
    made = detection_batch if detection else segmentation_batch
    model = build(cfg, 'mmdet' if detection else 'mmseg').to(device)
    optimiser = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.002))
    _step(model, optimiser, made(seed=0), 0)
    with waits(device) as places:
        _step(model, optimiser, made(seed=1), 1)
    MessageHub.get_current_instance().update_info('iter', 0)
    return places


def _step(model: nn.Module, optimiser: OptimWrapper, batch: Batch, iteration: int) -> None:
    MessageHub.get_current_instance().update_info('iter', iteration)
    model.train_step(deepcopy(batch), optimiser)
