"""Two-stage detectors: Faster R-CNN, Mask R-CNN, Cascade R-CNN and their kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmadm.adapters.base import Adapter, batch_area
from mmadm.adapters.detection import feats_path
from mmadm.adapters.instance_masks import (
    last_of,
    mask_scores,
    of_their_classes,
    positive_regions,
    scores_masks,
    with_classes,
)
from mmadm.adapters.rotated import of_one_kind, whole_image
from mmadm.adapters.taps import Reading, tapped
from mmadm.adapters.trident import image_of, tested_branch
from mmadm.registry import ADAPTERS
from mmadm.structures import BatchArea, Kind, RoleOutput, Tap, TapOutput
from mmadm.utils.errors import ConfigError
from mmadm.utils.eval_mode import evaluating
from mmadm.utils.versions import require


@ADAPTERS.register_module()
class TwoStageAdapter(Adapter):
    """Runs a stock two-stage detector.

    ``logits`` is (n, K + 1) and ``boxes`` (n, 4 or 4 * K) on the regions that the *learner* sampled, so that two roles
    score the same regions: this role pools them from its own neck. ``masks`` (n, 1, h, w) are likewise those of the
    learner's positive regions, each of its own class. A cascade learns at its last stage and teaches with what it
    predicts: the mean over the stages, of scores each on the boxes that the former one refined.

    Args:
        name: The role's name, for error messages.
        model: A detector with a ``roi_head``.

    Raises:
        ImportError: If the installed mmdet is outside the range that mmadm knows.
    """

    priority: ClassVar[int] = 0

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Whether a network has a RoI head."""
        return hasattr(model, 'backbone') and hasattr(model, 'roi_head')

    def __init__(self, name: str, model: Any) -> None:
        require('mmdet')
        named = {'feats': Reading((feats_path(model),))}
        head = model.roi_head
        self._stage = f'.{len(head.bbox_head) - 1}' if isinstance(head.bbox_head, nn.ModuleList) else ''
        if _scores_regions(head):
            bbox_head = (f'roi_head.bbox_head{self._stage}',)
            loss = getattr(self._head(model), 'loss_cls', None)
            scores = Kind.SIGMOID_SCORES if getattr(loss, 'use_sigmoid', False) else Kind.SOFTMAX_SCORES
            named['logits'] = Reading(bbox_head, partial(_nth, 0), scores)
            named['boxes'] = Reading(bbox_head, partial(_nth, 1), Kind.BOXES)
            if scores_masks(head):
                named['masks'] = Reading((last_of(head, 'mask_head')[1],), kind=Kind.SIGMOID_SCORES)
        super().__init__(name, named)

    def loss(self, model: nn.Module, inputs: Tensor, data_samples: list[Any], taps: Sequence[Tap]) -> RoleOutput:
        """Run the stock training forward pass; see :meth:`Adapter.loss`. Adds the sampled regions if they are used."""
        if not any(map(self.scores_regions, taps)):
            return super().loss(model, inputs, data_samples, taps)
        levels, regions = Tap(self.name, 'neck levels'), Tap(self.name, 'regions')
        extractor = Reading((f'roi_head.bbox_roi_extractor{self._stage}',), _regions)
        inner = {levels: self._named['feats'], regions: extractor}
        masks = [tap for tap in taps if tap.base == 'masks']
        positive = positive_regions(self.name, model.roi_head) if masks else {}
        area = batch_area(inputs, data_samples)
        with tapped(model, {**self._readings(model, taps), **inner, **positive}) as collected:
            losses = model(inputs, data_samples, mode='loss')
        maps, sampled = tested_branch(model, collected.pop(levels), len(inputs)), collected.pop(regions)
        rois = sampled[0] if sampled else maps[0].new_zeros(0, len(whole_image(model.roi_head, (0, 0))))
        found_positive = [collected.pop(tap) for tap in positive]
        mask_rois = with_classes(found_positive, self._head(model).num_classes, maps[0]) if masks else None
        if not sampled:  # a cascade ends its loss at a stage that gets no region
            score = partial(_score, model.roi_head, maps, _metas(data_samples), rois)
            collected.update({tap: [score(tap.base)] for tap in taps if self.scores_regions(tap)})
        # a mask lies in its region, not on the image
        found = {tap: self._masks_of(collected.pop(tap)[0], mask_rois) for tap in masks if mask_rois is not None}
        found |= self._tap_outputs(model, collected, area)
        truth = self.truth(model, data_samples)
        rois = image_of(model, rois, len(inputs))
        return RoleOutput(losses, found, area, truth, data_samples, rois, mask_rois, levels=maps)

    def features(
        self, model: Any, inputs: Tensor, taps: Sequence[Tap], data_samples: list[Any] | None = None
    ) -> RoleOutput:
        """Run only as much as the taps need; see :meth:`Adapter.features`. Regions are scored later."""
        asked = [tap for tap in taps if self.scores_regions(tap)]
        self._readings(model, asked)
        rest = self._readings(model, [tap for tap in taps if tap not in asked])
        if not asked:
            return super().features(model, inputs, taps, data_samples)
        parts = {path.partition('.')[0] for reading in rest.values() for path in reading.paths}
        with tapped(model, rest) as collected:
            levels = model.extract_feat(inputs)
            self._run_heads(model, levels, data_samples, parts)
        levels = tested_branch(model, levels, len(inputs))
        area = batch_area(inputs, data_samples or [])
        found = self._tap_outputs(model, collected, area)
        return RoleOutput(taps=found, area=area, data_samples=data_samples or [], levels=levels)

    def scores_regions(self, tap: Tap) -> bool:
        """Whether a tap is of the regions that a learner samples; see :meth:`Adapter.scores_regions`."""
        return tap.base in ('logits', 'boxes', 'masks')

    def score_regions(self, model: Any, output: RoleOutput, rois: Tensor, tap: Tap) -> TapOutput:
        """Score the regions that another role sampled, without gradient; see :meth:`Adapter.score_regions`."""
        assert output.levels is not None
        # a class is behind a box of masks; mmcv's RoIAlign reads a view's memory as if it were none
        boxes = rois[:, :5].contiguous() if tap.base == 'masks' else rois
        scores = _score(model.roi_head, output.levels, _metas(output.data_samples), boxes, tap.base)
        if tap.base == 'masks' and rois.shape[1] > 5:  # in a dry run they have no class, and all channels are compared
            return self._masks_of(scores, rois)
        kind = self.reading(model, tap).kind
        assert kind is not None
        return TapOutput(kind, [scores], (None,))

    def _probe(self, model: nn.Module, size: tuple[int, int], taps: Sequence[Tap]) -> RoleOutput:
        """Read taps on one blank image; its regions are the whole image."""
        found = super()._probe(model, size, taps)
        asked = [tap for tap in taps if self.scores_regions(tap)]
        if not asked:
            return found
        rois = torch.tensor([whole_image(model.roi_head, size)])
        # stages refine boxes on known images only: those of weights that nobody has drawn yet may be no numbers
        anywhere = replace(found, data_samples=[])
        scored = {tap: self.score_regions(model, anywhere, rois, tap) for tap in asked}
        return replace(found, taps={**found.taps, **scored}, rois=rois, mask_rois=rois)

    def _tap_outputs(
        self, model: nn.Module, collected: Mapping[Tap, list[Tensor]], area: BatchArea
    ) -> dict[Tap, TapOutput]:
        """Say of every tap what it gave; of a network with branches that of the one that predicts."""
        chosen = {tap: tested_branch(model, found, len(area.images)) for tap, found in collected.items()}
        return super()._tap_outputs(model, chosen, area)

    def _masks_of(self, masks: Tensor, regions: Tensor) -> TapOutput:
        return TapOutput(Kind.SIGMOID_SCORES, [of_their_classes(masks, regions)], (None,))

    def _head(self, model: nn.Module) -> Any:
        return model.get_submodule(f'roi_head.bbox_head{self._stage}')

    def _lacks(self, model: nn.Module, tap: str) -> str:
        if tap == 'masks' and 'logits' in self._named:
            return (
                f'{type(model.roi_head).__name__} has no tap `masks`: only Mask R-CNN, Cascade Mask R-CNN, HTC and '
                'SCNet score those of given regions. Tap `logits`, `boxes` or `feats`.'
            )
        return (
            f'{type(model.roi_head).__name__} has no tap `{tap}`: only StandardRoIHead and CascadeRoIHead score given '
            'regions (Faster, Mask and Cascade R-CNN), if all stages take boxes of one kind. Tap `feats` or a module '
            'path.'
        )

    def _run_heads(self, model: Any, features: Any, data_samples: list[Any] | None, parts: set[str]) -> None:
        for part in parts & {'rpn_head', 'semantic_head'}:  # the latter of a panoptic network
            model.get_submodule(part)(features)
        if 'roi_head' in parts:
            raise ConfigError(
                f'role {self.name!r}: modules inside roi_head see regions of their own, which nobody else has; tap '
                '`logits`, `boxes`, `feats` or a module of backbone, neck or rpn_head.'
            )


def _scores_regions(head: nn.Module) -> bool:
    from mmdet.models.roi_heads import CascadeRoIHead, SparseRoIHead, StandardRoIHead

    known = isinstance(head, StandardRoIHead | CascadeRoIHead) and not isinstance(head, SparseRoIHead)
    return known and of_one_kind(head)


def _nth(index: int, _args: Any, _kwargs: Any, output: Any) -> list[Tensor]:
    return [output[index]]


def _regions(args: Any, _kwargs: Any, _output: Any) -> list[Tensor]:
    """The regions (n, 5) that a RoI extractor is called with, after the feature levels."""
    return [args[1]]


def _context(head: Any, levels: Sequence[Tensor]) -> dict[str, Tensor]:
    """What a head fuses with the features of each region: those of HTC and SCNet."""
    semantic = {'semantic_feat': head.semantic_head(levels)[1]} if getattr(head, 'with_semantic', False) else {}
    return {**semantic, **({'glbctx_feat': head.glbctx_head(levels)[1]} if getattr(head, 'with_glbctx', False) else {})}


def _metas(data_samples: Sequence[Any]) -> list[dict[str, Any]]:
    return [sample.metainfo for sample in data_samples]


def _score(head: Any, levels: Sequence[Tensor], metas: list[dict[str, Any]], rois: Tensor, base: str) -> Tensor:
    """Class scores, box deltas (n, C) or masks of a RoI head on given regions (n, 5), without gradient."""
    # a frozen role of lower precision puts out levels of that precision, which not every RoIAlign takes
    levels = tuple(level.float() for level in levels)
    wanted = 'cls_score' if base == 'logits' else 'bbox_pred'
    with torch.no_grad(), evaluating(head):  # scoring the regions of another role must not move statistics (law 1)
        context = _context(head, levels)
        if base == 'masks':
            return mask_scores(head, levels, rois, context)
        if not isinstance(head.bbox_head, nn.ModuleList):
            return head._bbox_forward(levels, rois)[wanted]
        if len(rois) == 0 or not metas or wanted == 'bbox_pred':
            return head._bbox_forward(len(head.bbox_head) - 1, levels, rois, **context)[wanted]
        counts = [int((rois[:, 0] == index).sum()) for index in range(len(metas))]
        return torch.cat(list(head._refine_roi(levels, rois, metas, counts, **context)[1]))
