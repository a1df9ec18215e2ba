"""Single-stage detectors: RetinaNet, FCOS, ATSS, GFL, RepPoints, RTMDet and their kin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from typing import Any, ClassVar

from torch import Tensor, nn

from mmadm.adapters.base import Adapter
from mmadm.adapters.blank_image import blank_image
from mmadm.adapters.dense_boxes import dense_head
from mmadm.adapters.dense_targets import centerness_loss, centerness_of, noted, targets_of
from mmadm.adapters.detection import feats_path
from mmadm.adapters.taps import Reading, tapped
from mmadm.registry import ADAPTERS
from mmadm.structures import Kind, RoleFacts, RoleOutput, Tap
from mmadm.utils.dense import DenseTargets
from mmadm.utils.versions import require


@ADAPTERS.register_module()
class DenseAdapter(Adapter):
    """Runs a stock single-stage detector.

    ``logits`` gives for each level (N * A, K, h, w) before the sigmoid, with the A priors of a position folded into the
    batch; ``boxes`` the regression maps as the head puts them out in training, of VFNet the refined ones, and of heads
    with distributions (GFL) one map (N * 4, bins, h, w) with the four sides of a position in the batch.

    Args:
        name: The role's name, for error messages.
        model: A detector with a ``bbox_head``, or with a ``mask_head`` alone (SOLO).

    Raises:
        ImportError: If the installed mmdet is outside the range that mmadm knows.
    """

    priority: ClassVar[int] = 0

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Whether a network has one head, and no transformer before it."""
        return hasattr(model, 'backbone') and hasattr(model, 'bbox_head') and not hasattr(model, 'encoder')

    def __init__(self, name: str, model: Any) -> None:
        require('mmdet')
        self._head_path = 'mask_head' if model.bbox_head is None else 'bbox_head'
        super().__init__(name, {'feats': Reading((feats_path(model),)), **_head_readings(model.bbox_head)})

    def probe(self, model: nn.Module, size: int, taps: Sequence[Tap]) -> RoleFacts:
        """Read taps on a blank image; see :meth:`Adapter.probe`. Adds what the head can do."""
        return replace(super().probe(model, size, taps), dense=dense_head(self._head(model)))

    def loss(self, model: nn.Module, inputs: Tensor, data_samples: list[Any], taps: Sequence[Tap]) -> RoleOutput:
        """Run the stock training forward pass; see :meth:`Adapter.loss`. Adds what the head's assigner made of it."""
        if not taps or 'logits' not in self._named:
            return super().loss(model, inputs, data_samples, taps)
        scores, head = Tap(self.name, 'logits'), self._head(model)
        weighing = centerness_loss(head)
        with (
            tapped(model, {scores: self._named['logits']}) as seen,
            noted(getattr(head, 'loss_cls', None)) as calls,
            noted(weighing) as weighed,
        ):
            output = super().loss(model, inputs, data_samples, taps)

        def targets() -> DenseTargets:
            """What the calls say, put together where somebody asks."""
            found = targets_of(calls, seen[scores], len(inputs), head.num_classes, output.truth.boxes or ())
            return found if weighing is None else replace(found, centerness=centerness_of(weighed, inputs.device))

        return replace(output, targets=cache(targets))

    def new_head(self, model: nn.Module) -> nn.Module:
        """Make another head with the settings of this one and weights of its own."""
        head = deepcopy(self._head(model))
        head._is_init = False  # mmengine's mark that weights have been drawn
        head.init_weights()
        return head

    def _head(self, model: nn.Module) -> Any:
        return model.get_submodule(self._head_path)

    def _lacks(self, model: nn.Module, tap: str) -> str:
        return (
            f'{type(self._head(model)).__name__} has no tap `{tap}`: only heads with classification and regression '
            'maps have it (AnchorHead and AnchorFreeHead with their subclasses: RetinaHead, FCOSHead, ATSSHead, '
            'GFLHead, RepPointsHead, RTMDetHead, ...; not TOODHead and guided anchors). Tap `feats` or a module path.'
        )

    def _class_channels(self, model: nn.Module) -> int | None:
        return self._head(model).cls_out_channels if 'logits' in self._named else None

    def head_loss(
        self, model: nn.Module, head: Any, features: list[Tensor], data_samples: Sequence[Any]
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Task losses of another head, those of all levels added up, and its logits; see :meth:`Adapter.head_loss`."""
        logits = Tap(self.name, 'logits')
        with tapped(nn.ModuleDict({'bbox_head': head}), {logits: self._named['logits']}) as collected:
            losses = head.loss(tuple(features), data_samples)
        summed: dict[str, Any] = {
            key: sum(value) if isinstance(value, list | tuple) else value for key, value in losses.items()
        }
        return summed, collected[logits]

    def _probe(self, model: Any, size: tuple[int, int], taps: Sequence[Tap]) -> RoleOutput:
        """Read taps on one blank image, and find modules that put out class scores or boxes themselves."""
        named = {Tap(self.name, base): self._named[base] for base in ('logits', 'boxes') if base in self._named}
        inside = {tap: Reading((tap.base,)) for tap in taps if tap.base.startswith('bbox_head.')}
        if named and inside:
            with tapped(model, {**named, **inside}) as seen:
                self._head(model)(model.extract_feat(blank_image(model, size)))
            for tap in inside:
                for other in named:
                    if [t.data_ptr() for t in seen[tap]] == [t.data_ptr() for t in seen[other]]:
                        self._same_as[tap.base] = other.base
        return super()._probe(model, size, taps)

    def _run_heads(self, model: nn.Module, features: Any, data_samples: list[Any] | None, parts: set[str]) -> None:
        if self._head_path in parts:
            self._head(model)(features)


def _head_readings(head: nn.Module | None) -> dict[str, Reading]:
    """Taps of a head that puts out a list of classification maps, then a list of regression maps."""
    from mmdet.models.dense_heads import CenterNetUpdateHead, GuidedAnchorHead, RepPointsHead, TOODHead, VFNetHead
    from mmdet.models.dense_heads.anchor_free_head import AnchorFreeHead
    from mmdet.models.dense_heads.anchor_head import AnchorHead

    # TOOD puts out probabilities; guided anchors zeros in eval mode, wherever they expect no object
    if not isinstance(head, AnchorHead | AnchorFreeHead) or isinstance(head, TOODHead | GuidedAnchorHead):
        return {}
    scaled = getattr(head, 'norm_on_bbox', False) or isinstance(head, CenterNetUpdateHead)
    bins = head.reg_max + 1 if hasattr(head, 'integral') else None
    kind = Kind.BOX_DISTRIBUTIONS if bins else Kind.BOXES
    # VFNet refines its boxes; in training it puts out the first ones before them
    index = -1 if isinstance(head, VFNetHead) else 1
    boxes = Reading(('bbox_head',), partial(_box_maps, head, index, scaled, bins), kind)
    if isinstance(head, RepPointsHead):
        # in eval mode the head puts out boxes, not points: read the two convolutions, alternating by level
        boxes = Reading(('bbox_head.reppoints_pts_init_out', 'bbox_head.reppoints_pts_refine_out'), kind=kind)
    scores = Kind.SIGMOID_SCORES if getattr(head, 'use_sigmoid_cls', False) else Kind.SOFTMAX_SCORES
    logits = Reading(('bbox_head',), partial(_class_maps, head.cls_out_channels), scores)
    return {'logits': logits, 'boxes': boxes}


def _class_maps(classes: int, _args: Any, _kwargs: Any, output: Any) -> Iterable[Tensor]:
    for scores in output[0]:
        # (N, A * K, h, w): one distribution for each prior
        yield scores.reshape(-1, classes, *scores.shape[2:])


def _box_maps(
    head: Any, index: int, scaled: bool, bins: int | None, _args: Any, _kwargs: Any, output: Any
) -> Iterable[Tensor]:
    if bins:  # (N, sides * bins, h, w): one distribution for each side
        return [boxes.reshape(-1, bins, *boxes.shape[2:]) for boxes in output[index]]
    # in eval mode FCOS with normalised boxes puts out pixels, in training multiples of the stride
    if head.training or not scaled:
        return output[index]
    return [boxes / stride[0] for boxes, stride in zip(output[index], head.prior_generator.strides, strict=True)]
