"""Roles that learn from distillers alone, without their task loss: on any image, labelled or not."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import nn

from mmadm.adapters import Adapter
from mmadm.algorithms.role_runner import DRY_RUN_SIZE
from mmadm.distillers import Distiller
from mmadm.structures import Tap
from mmadm.utils.errors import ConfigError
from mmadm.utils.eval_mode import as_in_training
from mmadm.utils.random import untouched_generators


def taught_roles(roles: Mapping[str, Mapping[str, Any]], frozen: Collection[str]) -> frozenset[str]:
    """Roles with ``task_loss=False``.

    Raises:
        ConfigError: If a frozen role says anything of a task loss.
    """
    for name in frozen:
        if 'task_loss' in roles[name]:
            raise ConfigError(f'model.roles.{name}.task_loss: a frozen role has no task loss; leave the key out')
    return frozenset(name for name, cfg in roles.items() if not cfg.get('task_loss', True))


def leave_alone(name: str, role: nn.Module, adapter: Adapter, distillers: Iterable[Distiller]) -> None:
    """Take the gradient from what no distiller reaches: DDP would wait for it, weight decay shrink it.

    Args:
        name: The role's name.
        role: Its network, in training mode.
        adapter: Its adapter.
        distillers: All of them.

    Raises:
        ConfigError: If no distiller teaches the role to the end, or at regions, which the task loss samples.
    """
    taps = _taught_taps(name, distillers, adapter)
    named = {path: parameter for path, parameter in role.named_parameters() if parameter.requires_grad}
    with torch.enable_grad(), untouched_generators(), as_in_training(role):
        found = adapter.probe(role, DRY_RUN_SIZE, taps).output.taps.values()
        ends = [level.sum() for output in found for level in output.levels if level.requires_grad]
        reached = torch.autograd.grad(ends, list(named.values()), allow_unused=True) if ends else [None] * len(named)
    alone = [path for path, gradient in zip(named, reached, strict=True) if gradient is None]
    for path in alone:
        named[path].requires_grad_(False)
    if alone:
        parts = sorted({path.partition('.')[0] for path in alone})
        MMLogger.get_current_instance().warning(
            f'model.roles.{name}.task_loss=False: no distiller reaches all of {", ".join(parts)}; {len(alone)} '
            'parameters stay as they are.'
        )


def _taught_taps(name: str, distillers: Iterable[Distiller], adapter: Adapter) -> list[Tap]:
    """Taps of a taught role to which the losses of distillers come; raises ConfigError as above."""
    teaching = [(part, edge) for part in distillers for edge in part.edges() if edge.learner.role == name]
    teaching = [(part, edge) for part, edge in teaching if part.moves(edge)]
    where = f'model.roles.{name}.task_loss=False'
    if all(part.schedule.over(sys.maxsize, sys.maxsize) for part, _ in teaching):
        raise ConfigError(f'{where}: no distiller teaches this role until the end of the training; add one')
    for _, edge in teaching:
        if adapter.scores_regions(edge.learner):
            raise ConfigError(
                f'{where}: what {str(edge.learner)!r} scores are regions that the task loss samples; tap `feats`'
            )
    return sorted({edge.learner for _, edge in teaching}, key=str)
