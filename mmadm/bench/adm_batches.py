"""What ADM compares in a few batches, without learning: for tools that look at its positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from mmadm.algorithms.role_runner import wanted_taps
from mmadm.distillers import ADM
from mmadm.distillers.pairs import Outputs
from mmadm.registry import MODELS
from mmadm.utils.checkpoint import read_checkpoint


@dataclass(frozen=True)
class AdmBatch:
    """One batch before one ADM distiller: the roles' outputs, its connectors and the names of the classes."""

    part: ADM
    outputs: Outputs
    connectors: Mapping[str, nn.Module]
    classes: tuple[str, ...]


def adm_batches(
    cfg: Config, batches: int, loader: Mapping[str, Any], checkpoint: str | None = None
) -> Iterator[list[AdmBatch]]:
    """Run the roles on batches, in the mode that they train in.

    Args:
        cfg: Config of a training with ADM.
        batches: How many.
        loader: Config of a data loader.
        checkpoint: Weights of such a training; else the roles' initial ones.

    Yields:
        Of each batch one entry for each ADM.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    if checkpoint is None:
        model.init_weights()
    else:
        model.load_state_dict(read_checkpoint(checkpoint)['state_dict'])
    built = Runner.build_dataloader(dict(loader, num_workers=0, persistent_workers=False), seed=0)
    classes = tuple(built.dataset.metainfo.get('classes', ()))
    for data in islice(built, batches):
        made = model.data_preprocessor(data, True)
        with torch.no_grad():
            outputs = model._runner.run(made['inputs'], made['data_samples'], wanted_taps(model.distillers.values()), 0)
        yield [
            AdmBatch(part, outputs, model.step_of(name).connectors, classes)
            for name, part in model.distillers.items()
            if isinstance(part, ADM)
        ]
