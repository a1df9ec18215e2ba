"""Single-stage detectors: RetinaNet, FCOS, ATSS, GFL, RepPoints, RTMDet and their kin."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from functools import partial
from typing import Any

from torch import Tensor, nn

from mmadm.adapters.base import Adapter
from mmadm.adapters.detection import feats_path, ground_truth
from mmadm.adapters.taps import Tap, tapped
from mmadm.utils.versions import require


class DenseAdapter(Adapter):
    """Runs a stock single-stage detector.

    ``logits`` gives for each level (N * A, K, h, w) before the sigmoid, with the A priors of a position folded into the
    batch; ``boxes`` the regression maps as the head puts them out in training, of VFNet the refined ones.

    Args:
        name: The role's name, for error messages.
        model: A detector with a ``bbox_head``, or with a ``mask_head`` alone (SOLO).

    Raises:
        ImportError: If the installed mmdet is outside the range that mmadm knows.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        require('mmdet')
        self._head_path = 'mask_head' if model.bbox_head is None else 'bbox_head'
        super().__init__(name, {'feats': Tap((feats_path(model),)), **_head_taps(model.bbox_head)})

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

    def _binary(self, model: nn.Module) -> bool:
        return bool(getattr(self._head(model), 'use_sigmoid_cls', False))

    def _class_channels(self, model: nn.Module) -> int | None:
        return self._head(model).cls_out_channels if 'logits' in self._named else None

    def _facts(self, model: nn.Module, inputs: Tensor, data_samples: list[Any]) -> dict[str, Any]:
        loss = partial(_head_loss, self._named.get('logits'), data_samples)
        return {'truth': partial(ground_truth, inputs, data_samples), 'binary': self._binary(model), 'head_loss': loss}

    def _run_heads(self, model: nn.Module, features: Any, data_samples: list[Any] | None, parts: set[str]) -> None:
        if self._head_path in parts:
            self._head(model)(features)


def _head_taps(head: nn.Module | None) -> dict[str, Tap]:
    """Taps of a head that puts out a list of classification maps, then a list of regression maps."""
    from mmdet.models.dense_heads import CenterNetUpdateHead, GuidedAnchorHead, RepPointsHead, TOODHead, VFNetHead
    from mmdet.models.dense_heads.anchor_free_head import AnchorFreeHead
    from mmdet.models.dense_heads.anchor_head import AnchorHead

    # TOOD puts out probabilities; guided anchors zeros in eval mode, wherever they expect no object
    if not isinstance(head, AnchorHead | AnchorFreeHead) or isinstance(head, TOODHead | GuidedAnchorHead):
        return {}
    scaled = getattr(head, 'norm_on_bbox', False) or isinstance(head, CenterNetUpdateHead)
    # VFNet refines its boxes; in training it puts out the first ones before them
    boxes = Tap(('bbox_head',), partial(_box_maps, head, -1 if isinstance(head, VFNetHead) else 1, scaled))
    if isinstance(head, RepPointsHead):
        # in eval mode the head puts out boxes, not points: read the two convolutions, alternating by level
        boxes = Tap(('bbox_head.reppoints_pts_init_out', 'bbox_head.reppoints_pts_refine_out'))
    return {'logits': Tap(('bbox_head',), partial(_class_maps, head.cls_out_channels)), 'boxes': boxes}


def _class_maps(classes: int, _args: Any, _kwargs: Any, output: Any) -> Iterable[Tensor]:
    for scores in output[0]:
        # (N, A * K, h, w): one distribution for each prior
        yield scores.reshape(-1, classes, *scores.shape[2:])


def _box_maps(head: Any, index: int, scaled: bool, _args: Any, _kwargs: Any, output: Any) -> Iterable[Tensor]:
    # in eval mode FCOS with normalised boxes puts out pixels, in training multiples of the stride
    if head.training or not scaled:
        return output[index]
    return [boxes / stride[0] for boxes, stride in zip(output[index], head.prior_generator.strides, strict=True)]


def _head_loss(
    logits: Tap, data_samples: list[Any], head: Any, features: list[Tensor]
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Task losses of another head, those of all levels added up, and its logits."""
    with tapped(nn.ModuleDict({'bbox_head': head}), {'logits': logits}) as collected:
        losses = head.loss(tuple(features), data_samples)
    summed = {key: sum(value) if isinstance(value, list | tuple) else value for key, value in losses.items()}
    return summed, collected['logits']
