"""Instance masks of two-stage detectors, of the regions and classes that a learner's sampler made positive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.adapters.taps import Reading
from mmadm.structures import Tap


def scores_masks(head: Any) -> bool:
    """Whether a RoI head scores masks of given regions: that of Mask R-CNN, Cascade Mask R-CNN and their kin.

    Args:
        head: A stock RoI head, of which it is known that it scores given regions.
    """
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    if not head.with_mask:
        return False
    # the extractor that a cascade shares is called twice in each stage
    unclear = _shares_extractor(head) and isinstance(head.mask_head, nn.ModuleList)
    return not unclear and isinstance(last_of(head, 'mask_head')[0], FCNMaskHead)


def last_of(head: Any, part: str) -> tuple[Any, str]:
    """The last stage of a part of a RoI head, and its path: SCNet has several box heads and a single mask head."""
    found = getattr(head, part)
    path = f'roi_head.{part}'
    return (found[-1], f'{path}.{len(found) - 1}') if isinstance(found, nn.ModuleList) else (found, path)


def positive_regions(role: str, head: Any) -> dict[Tap, Reading]:
    """What to read of a training forward pass to know the positive regions, and their classes, of the last stage.

    Args:
        role: The role's name.
        head: A RoI head for which :func:`scores_masks` holds.
    """
    # an extractor that boxes and masks share sees all sampled regions, and the loss of the boxes which are positive
    shared = (Tap(role, 'labels'), Reading(('roi_head.bbox_head.loss_cls',), _second_argument))
    return {
        Tap(role, 'mask regions'): Reading((last_of(head, 'mask_roi_extractor')[1],), _second_argument),
        # in front of the loss a class-agnostic head says 0 for every class, as its only channel is called
        Tap(role, 'mask classes'): Reading((f'{last_of(head, "mask_head")[1]}.loss_mask',), _third_argument),
        **dict([shared] if _shares_extractor(head) else []),
    }


def with_classes(found: Sequence[Sequence[Tensor]], background: int, like: Tensor) -> Tensor:
    """Put what :func:`positive_regions` read together: (n, 6) with image index, box and class.

    Args:
        found: Of each reading at most one tensor: regions (m, 5), none if a cascade ended before its last stage;
            classes (n,), none if no region is positive; if these share an extractor the labels (m,) of the regions.
        background: Label of those that are not positive.
        like: A tensor of the same device.
    """
    (regions, classes), labels = found[:2], found[2:]
    if not regions or not classes:
        return like.new_zeros((0, 6))
    positive = regions[0][labels[0][0] != background] if labels else regions[0]
    return torch.cat([positive, classes[0].unsqueeze(1).to(positive.dtype)], dim=1)


def of_their_classes(masks: Tensor, regions: Tensor) -> Tensor:
    """Choose of masks (n, K, h, w) of regions (n, 6) the channel of each region's class: (n, 1, h, w).

    The others are what no loss has ever taught: a mask head learns the class of a region only.
    """
    return masks[torch.arange(len(masks), device=masks.device), regions[:, 5].long()].unsqueeze(1)


def mask_scores(head: Any, levels: Sequence[Tensor], rois: Tensor, context: Mapping[str, Tensor]) -> Tensor:
    """Mask logits (n, K, h, w) of given regions (n, 5) as a network predicts them; of a cascade the stages' mean.

    Args:
        head: A RoI head for which :func:`scores_masks` holds.
        levels: Feature maps.
        rois: Image index and box.
        context: What it fuses with the features of each region.
    """
    from mmdet.models.roi_heads import HybridTaskCascadeRoIHead, SCNetRoIHead

    if isinstance(head, SCNetRoIHead):  # its mask head goes on from what the last box head has found
        relayed = head.feat_relay_head(head._bbox_forward(-1, levels, rois, **context)['relayed_feat'])
        return head._mask_forward(levels, rois, **context, relayed_feat=relayed)['mask_preds']
    if not isinstance(head.mask_head, nn.ModuleList):
        return head._mask_forward(levels, rois)['mask_preds']
    if isinstance(head, HybridTaskCascadeRoIHead):  # each stage goes on from the former one
        found = head._mask_forward(-1, levels, rois, **context, training=False)['mask_preds']
    else:
        found = [head._mask_forward(stage, levels, rois)['mask_preds'] for stage in range(len(head.mask_head))]
    return torch.stack(found).sigmoid().mean(dim=0).logit(eps=1e-6)


def _shares_extractor(head: Any) -> bool:
    return getattr(head, 'share_roi_extractor', False)  # SCNet always has one for masks, and no such mark


def _second_argument(args: Any, _kwargs: Any, _output: Any) -> list[Tensor]:
    return [args[1]]


def _third_argument(args: Any, _kwargs: Any, _output: Any) -> list[Tensor]:
    return [args[2]]
