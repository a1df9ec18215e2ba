"""What the distillers of a model see of a single image, for pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmadm.structures import SimilarityMaps
from mmadm.utils.eval_mode import evaluating
from mmadm.utils.random import untouched_generators


def similarity_maps(model: Any, item: Mapping[str, Any]) -> list[SimilarityMaps]:
    """Similarity and position weights at every tap and level of every ADM distiller.

    Args:
        model: An ``mmadm.Distillation``; neither weights, buffers nor modes change.
        item: One packed image of a stock data set: ``inputs`` (C, H, W) and ``data_samples``.
    """
    parts = {name: part for name, part in model.distillers.items() if hasattr(part, 'similarity_maps')}
    outputs = model.look(item, parts)
    with evaluating(model):
        return [
            maps for name, part in parts.items() for maps in part.similarity_maps(name, outputs, model.step_of(name))
        ]


def avatar_variances(model: Any, item: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """How much the avatars of each distiller differ, see :meth:`~mmadm.modules.AvatarEnsemble.variance`.

    Args:
        model: See :func:`similarity_maps`.
        item: See :func:`similarity_maps`.

    Returns:
        By distiller with avatars, then by tap and level: maps (1, h, w) without padding, the same at every call. Taps
        that give no maps, such as the scores of regions, are left out.
    """
    parts = {name: part for name, part in model.distillers.items() if getattr(part, 'avatars', None)}
    outputs = model.look(item, parts)
    with untouched_generators():
        torch.manual_seed(0)
        return {name: part.avatar_variances(outputs) for name, part in parts.items()}
