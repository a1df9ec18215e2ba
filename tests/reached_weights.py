"""Which weights a loss moves (law 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def total(loss: Tensor | list[Tensor]) -> Tensor:
    """One scalar: dense heads of mmdet put out a list with a loss for each level."""
    return sum(part.sum() for part in loss) if isinstance(loss, list) else loss.sum()


def reached(model: nn.Module, loss: Tensor | list[Tensor]) -> set[str]:
    """Parameters that a loss reaches with a gradient other than zero, by name."""
    loss = total(loss)
    if not loss.requires_grad:
        return set()
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, retain_graph=True)
    return {name for name, g in zip(wanted, found, strict=True) if g is not None and g.abs().max() > 0}


def assert_routed(model: nn.Module, losses: dict[str, Tensor | list[Tensor]]) -> dict[str, set[str]]:
    """Check that every loss is finite and moves nothing but its learner, and that monitors move nothing.

    Returns:
        What each loss reaches.
    """
    moved = {}
    for key, loss in losses.items():
        if 'loss' not in key:
            assert not total(loss).requires_grad, key
            continue
        assert torch.isfinite(total(loss)), key
        learner, moved[key] = key.partition('.')[0], reached(model, loss)
        # connectors belong to students
        own = (f'roles.{learner}.', 'connectors.') if learner == 'student' else (f'roles.{learner}.',)
        strangers = sorted(name for name in moved[key] if not name.startswith(own))
        assert not strangers, f'{key} reaches {strangers[:3]}'
    return moved
