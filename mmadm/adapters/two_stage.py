"""Two-stage detectors: Faster R-CNN, Mask R-CNN, Cascade R-CNN and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.adapters.base import Adapter
from mmadm.adapters.blank_image import blank_image
from mmadm.adapters.detection import blank_samples, feats_path, ground_truth
from mmadm.adapters.taps import Tap, split_levels, tapped
from mmadm.structures import RoleOutput
from mmadm.utils.errors import ConfigError
from mmadm.utils.modes import evaluating
from mmadm.utils.versions import require

_ON_ROIS = ('logits', 'boxes')
_LEVELS, _REGIONS = 'levels', 'regions'


class TwoStageAdapter(Adapter):
    """Runs a stock two-stage detector.

    ``logits`` is (n, K + 1) and ``boxes`` (n, 4 or 4 * K) on the regions that the *learner* sampled, so that two roles
    score the same regions: this role pools them from its own neck. A cascade learns at its last stage and teaches with
    what it predicts: the mean over the stages, each on the boxes that the former one refined.

    Args:
        name: The role's name, for error messages.
        model: A detector with a ``roi_head``.

    Raises:
        ImportError: If the installed mmdet is outside the range that mmadm knows.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        require('mmdet')
        named = {'feats': Tap((feats_path(model),))}
        head = model.roi_head
        self._stage = f'.{len(head.bbox_head) - 1}' if isinstance(head.bbox_head, nn.ModuleList) else ''
        if _scores_regions(head):
            bbox_head = (f'roi_head.bbox_head{self._stage}',)
            named['logits'] = Tap(bbox_head, partial(_nth, 0))
            named['boxes'] = Tap(bbox_head, partial(_nth, 1))
        super().__init__(name, named)

    def loss(self, model: nn.Module, inputs: Tensor, data_samples: list[Any], taps: Sequence[str]) -> RoleOutput:
        """Run the stock training forward pass; see :meth:`Adapter.loss`. Adds the sampled regions if they are used."""
        if not any(_on_rois(tap) for tap in taps):
            return super().loss(model, inputs, data_samples, taps)
        extractor = Tap((f'roi_head.bbox_roi_extractor{self._stage}',), _regions)
        inner = {_LEVELS: self._named['feats'], _REGIONS: extractor}
        with tapped(model, {**self._resolve(model, taps), **inner}) as collected:
            losses = model(inputs, data_samples, mode='loss')
        levels, regions = collected.pop(_LEVELS), collected.pop(_REGIONS)
        score = partial(_score, model.roi_head, levels, _metas(data_samples))
        rois = regions[0] if regions else levels[0].new_zeros(0, 5)
        if not regions:  # a cascade ends its loss at a stage that gets no region
            collected.update({tap: [score(rois, tap)] for tap in taps if _on_rois(tap)})
        facts = self._facts(model, inputs, data_samples)
        return RoleOutput(losses, self._reached(collected), rois=rois, on_rois=score, **facts)

    def features(
        self, model: nn.Module, inputs: Tensor, taps: Sequence[str], data_samples: list[Any] | None = None
    ) -> RoleOutput:
        """Run only as much as the taps need; see :meth:`Adapter.features`. Regions are scored when a learner asks."""
        asked = [tap for tap in taps if _on_rois(tap)]
        self._resolve(model, asked)
        rest = {tap: self.tap(model, tap) for tap in taps if tap not in asked}
        if not asked:
            return super().features(model, inputs, taps, data_samples)
        parts = {path.partition('.')[0] for tap in rest.values() for path in tap.paths}
        with torch.no_grad(), tapped(model, rest) as collected:
            levels = model.extract_feat(inputs)
            self._run_heads(model, levels, data_samples, parts)
        score = partial(_score, model.roi_head, levels, _metas(data_samples or []))
        return RoleOutput(taps=self._reached(collected), binary=self._binary(model), on_rois=score)

    def _probe(self, model: nn.Module, size: tuple[int, int], taps: Sequence[str]) -> RoleOutput:
        """Read taps on one blank image; its regions are the whole image."""
        found = self.features(model, blank_image(model, size), taps, blank_samples(1, size))
        if found.on_rois is None:
            return found
        height, width = size
        rois = torch.tensor([[0.0, 0.0, 0.0, width, height]])
        scored = {tap: [found.on_rois(rois, tap)] for tap in taps if _on_rois(tap)}
        return replace(found, taps={**found.taps, **scored}, rois=rois)

    def _head(self, model: nn.Module) -> Any:
        return model.get_submodule(f'roi_head.bbox_head{self._stage}')

    def _lacks(self, model: nn.Module, tap: str) -> str:
        return (
            f'{type(model.roi_head).__name__} has no tap `{tap}`: only StandardRoIHead and CascadeRoIHead score given '
            'regions (Faster, Mask and Cascade R-CNN). Tap `feats` or a module path.'
        )

    def _binary(self, model: nn.Module) -> bool:
        return bool(getattr(getattr(self._head(model), 'loss_cls', None), 'use_sigmoid', False))

    def _facts(self, model: nn.Module, inputs: Tensor, data_samples: list[Any]) -> dict[str, Any]:
        return {'truth': partial(ground_truth, inputs, data_samples), 'binary': self._binary(model)}

    def _run_heads(self, model: nn.Module, features: Any, data_samples: list[Any] | None, parts: set[str]) -> None:
        if 'rpn_head' in parts:
            model.rpn_head(features)
        if 'roi_head' in parts:
            raise ConfigError(
                f'role {self.name!r}: modules inside roi_head see regions of their own, which nobody else has; tap '
                '`logits`, `boxes`, `feats` or a module of backbone, neck or rpn_head.'
            )


def _scores_regions(head: nn.Module) -> bool:
    from mmdet.models.roi_heads import CascadeRoIHead, SparseRoIHead, StandardRoIHead

    return isinstance(head, StandardRoIHead | CascadeRoIHead) and not isinstance(head, SparseRoIHead)


def _on_rois(tap: str) -> bool:
    return split_levels(tap)[0] in _ON_ROIS


def _nth(index: int, _args: Any, _kwargs: Any, output: Any) -> list[Tensor]:
    return [output[index]]


def _regions(args: Any, _kwargs: Any, _output: Any) -> list[Tensor]:
    """The regions (n, 5) that a RoI extractor is called with, after the feature levels."""
    return [args[1]]


def _metas(data_samples: list[Any]) -> list[dict[str, Any]]:
    return [sample.metainfo for sample in data_samples]


def _score(head: Any, levels: Sequence[Tensor], metas: list[dict[str, Any]], rois: Tensor, tap: str) -> Tensor:
    """Class scores or box deltas (n, C) of a RoI head on given regions (n, 5), without gradient."""
    # a frozen role of lower precision puts out levels of that precision, which not every RoIAlign takes
    levels = tuple(level.float() for level in levels)
    wanted = 'cls_score' if split_levels(tap)[0] == 'logits' else 'bbox_pred'
    with torch.no_grad(), evaluating(head):  # scoring the regions of another role must not move statistics (law 1)
        if not isinstance(head.bbox_head, nn.ModuleList):
            return head._bbox_forward(levels, rois)[wanted]
        if len(rois) == 0 or wanted == 'bbox_pred':
            return head._bbox_forward(len(head.bbox_head) - 1, levels, rois)[wanted]
        counts = [int((rois[:, 0] == index).sum()) for index in range(len(metas))]
        return torch.cat(list(head._refine_roi(levels, rois, metas, counts)[1]))
