"""Collaborative learning from an ensemble of all roles (Guo et al., CVPR 2020; methods.md, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def naive_ensemble(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """At each position the logits of the role with the lowest cross-entropy there (KDCL-Naive).

    Args:
        logits: Of each role, shape (N, K, ...).
        labels: Class ids (N, ...), or targets between 0 and 1 of the logits' shape for heads with a sigmoid per class,
            where each class is chosen by itself. Positions without a class may hold any id.

    Returns:
        The ensemble's logits of the same shape in float32, without gradient.
    """
    with torch.no_grad():
        stacked = torch.stack([z.float() for z in logits])
        if labels.dtype == torch.bool:
            return _surest(stacked, labels)  # the same, without the entropies
        if labels.shape == logits[0].shape:
            entropy = torch.stack(
                [F.binary_cross_entropy_with_logits(z, labels.float(), reduction='none') for z in stacked]
            )
        else:
            known = labels.clamp(0, stacked.shape[2] - 1)
            entropy = torch.stack([F.cross_entropy(z, known, reduction='none') for z in stacked]).unsqueeze(2)
        best = entropy.argmin(dim=0, keepdim=True)
        return stacked.gather(0, best.expand(1, *stacked.shape[1:])).squeeze(0)


def minimum_ensemble(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Subtract each role's true-class logit, then take the minimum over the roles (KDCL-MinLogit).

    Args:
        logits: Of each role, shape (N, K, ...).
        labels: Class ids (N, ...). For heads with a sigmoid per class targets of the logits' shape: there the true
            decision's logit is the larger one of (z, 0) that belongs to it, so the role that is surest of the truth
            wins.

    Returns:
        The ensemble's logits of the same shape in float32, without gradient.
    """
    with torch.no_grad():
        stacked = torch.stack([z.float() for z in logits])
        if labels.shape == logits[0].shape:
            # two classes (z, 0): minus the true one leaves (0, -z) or (z, 0), so the other's minimum is that of -z or z
            return _surest(stacked, labels > 0.5)
        known = labels.clamp(0, stacked.shape[2] - 1).unsqueeze(1)
        true = torch.stack([z.gather(1, known) for z in stacked])
        return (stacked - true).amin(dim=0)


def _surest(stacked: Tensor, present: Tensor) -> Tensor:
    """Of each class the logit of the role that is surest of the truth: the highest where the class is present."""
    return torch.where(present, stacked.amax(dim=0), stacked.amin(dim=0))
