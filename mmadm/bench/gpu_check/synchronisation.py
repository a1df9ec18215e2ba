"""Part: how often a training step waits for the device, beside stock steps."""

from __future__ import annotations

from copy import deepcopy

import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn

from mmadm.bench.gpu_check.detectors import detection_batch
from mmadm.bench.gpu_check.methods import METHODS, method
from mmadm.bench.gpu_check.networks import Batch, Config, build, segmentation_batch
from mmadm.bench.gpu_check.report import Report, Setting
from mmadm.bench.gpu_check.waits import Places, waits

#: Functions of mmadm that may wait
ALLOWED = {'switch_distances': "a CPU's one_hot looks at the labels, a GPU's does not"}
#: Of SwitOKD: whether the teacher pauses is decided on the host
PAUSING = 'mmadm/algorithms/paused_roles.py', 'undo_paused'


def synchronisation(setting: Setting, report: Report) -> None:
    """Part: the second step of each method, the first makes what is made once."""
    for detection in (False, True):
        kind = 'detectors' if detection else 'FCN'
        for name in METHODS[: 1 if setting.tiny else None]:
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
                mine = own(places, name == 'switokd')
                told = ', '.join(f'{place} x{number}' for place, number in mine.items())
                report.check(f"{name}, {kind}: nothing of mmadm's waits", not mine, told)


def own(places: Places, pauses: bool = False) -> Places:
    """Waits that stand in mmadm itself, the allowed ones apart.

    Args:
        places: All waits of a step.
        pauses: Whether a role of the method may pause.
    """
    found = Places()
    for place, number in places.items():
        file, _, function = place.partition(':')
        name = function.partition(' ')[2]
        allowed = name in ALLOWED or (pauses and (file, name) == PAUSING)
        if file.startswith('mmadm/') and not file.startswith('mmadm/bench/') and not allowed:
            found[place] = number
    return found


def waits_of_step(cfg: Config, detection: bool, device: torch.device) -> Places:
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
