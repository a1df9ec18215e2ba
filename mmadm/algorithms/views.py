"""What the distillers of a model see of a single image, for pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmadm.adapters import Adapter
from mmadm.distillers import ADM
from mmadm.distillers.base import level_key, matched
from mmadm.functional import region_weights, similarity_map
from mmadm.structures import RoleOutput, SimilarityMaps
from mmadm.utils.modes import evaluating
from mmadm.utils.random import untouched_generators


class TapViews:
    """Views of a :class:`~mmadm.algorithms.distillation.Distillation`; neither weights, buffers nor modes change."""

    roles: nn.ModuleDict
    distillers: nn.ModuleDict
    connectors: nn.ModuleDict
    _adapters: dict[str, Adapter]

    @property
    def adm(self) -> dict[str, ADM]:
        """The ADM distillers by name."""
        return {name: part for name, part in self.distillers.items() if isinstance(part, ADM)}

    def similarity_maps(self, item: Mapping[str, Any]) -> list[SimilarityMaps]:
        """Similarity and position weights at every tap and level of every ADM distiller.

        Args:
            item: One packed image of a stock data set: ``inputs`` (3, H, W) and ``data_samples``.
        """
        found = []
        with torch.no_grad(), evaluating(self):
            outputs, shares = self._look(item, self._wanted(self.adm.values()))
            for name, adm in self.adm.items():
                connectors = self.connectors[name] if name in self.connectors else {}
                for edge in adm.edges():
                    pairs = matched(edge, outputs, connectors)
                    for level, pair in enumerate(pairs):
                        similarity = _without_padding(similarity_map(*pair), shares[edge.source])
                        key = f'{name}_{level_key(edge, level, len(pairs))}'
                        found.append(SimilarityMaps(key, edge.learner, edge.source, *_with_weights(similarity, adm)))
        return found

    def avatar_variances(self, item: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
        """How much the avatars of each distiller differ, see :meth:`~mmadm.modules.AvatarEnsemble.variance`.

        Args:
            item: See :meth:`similarity_maps`.

        Returns:
            By distiller with avatars, then by tap and level: maps (1, h, w) without padding, the same at every call.
            Taps that give no maps, such as the scores of regions, are left out.
        """
        perturbed = {name: part for name, part in self.distillers.items() if getattr(part, 'avatars', None)}
        wanted: dict[str, list[str]] = {}
        for edge in (edge for part in perturbed.values() for edge in part.edges()):
            wanted.setdefault(edge.source, []).append(edge.source_tap)
        found: dict[str, dict[str, Tensor]] = {name: {} for name in perturbed}
        with torch.no_grad(), evaluating(self), untouched_generators():
            torch.manual_seed(0)
            outputs, shares = self._look(item, wanted)
            for name, part in perturbed.items():
                for edge in part.edges():
                    levels = outputs[edge.source].taps.get(edge.source_tap, [])
                    for level, source in enumerate(levels):
                        if source.dim() == 4:
                            variance = part.avatars.variance(source).mean(dim=0, keepdim=True)
                            key = level_key(edge, level, len(levels))
                            found[name][key] = _without_padding(variance, shares[edge.source])
        return found

    def _look(
        self, item: Mapping[str, Any], wanted: Mapping[str, list[str]]
    ) -> tuple[dict[str, RoleOutput], dict[str, list[float]]]:
        """Taps of roles on one image, and the shares (height, width) of each role's input that are not padding."""
        outputs, shares = {}, {}
        for role, taps in wanted.items():
            network = self.roles[role]
            data = network.data_preprocessor(pseudo_collate([deepcopy(item)]), False)
            outputs[role] = self._adapters[role].features(network, data['inputs'], taps, data['data_samples'])
            sides = zip(item['inputs'].shape[1:], data['inputs'].shape[2:], strict=True)
            shares[role] = [side / padded for side, padded in sides]
        return outputs, shares


def _with_weights(similarity: Tensor, adm: ADM) -> list[Tensor]:
    """A similarity map (N, h, w) and both kinds of weights, each (1, h, w); N are the priors of a position."""
    size = similarity.shape[1:]
    weights = [region_weights(sign * similarity, **adm.options).unflatten(1, size) * size.numel() for sign in (1, -1)]
    return [values.mean(dim=0, keepdim=True) for values in (similarity, *weights)]


def _without_padding(values: Tensor, shares: list[float]) -> Tensor:
    """Cut maps (N, h, w) to what belongs to the image, at the top left."""
    height, width = (math.ceil(share * side) for share, side in zip(shares, values.shape[1:], strict=True))
    return values[:, :height, :width]
