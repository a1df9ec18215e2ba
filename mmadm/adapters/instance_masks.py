"""Instance masks of two-stage detectors, of the regions and classes that a learner's sampler made positive."""

from __future__ import annotations

from collections.abc import Sequence
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
    from mmdet.models.roi_heads import HybridTaskCascadeRoIHead, SCNetRoIHead
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    # those of HTC and SCNet take what other heads put out; a shared extractor's features are cut from the boxes' own
    if isinstance(head, HybridTaskCascadeRoIHead | SCNetRoIHead) or not head.with_mask or head.share_roi_extractor:
        return False
    return isinstance(_stages(head)[0], FCNMaskHead)


def positive_regions(role: str, stage: str) -> dict[Tap, Reading]:
    """What to read of a training forward pass to know the positive regions, and their classes, of the last stage.

    Args:
        role: The role's name.
        stage: What follows the name of a part: empty, or a dot and the stage's number.
    """
    return {
        Tap(role, 'mask regions'): Reading((f'roi_head.mask_roi_extractor{stage}',), _second_argument),
        # in front of the loss a class-agnostic head says 0 for every class, as its only channel is called
        Tap(role, 'mask classes'): Reading((f'roi_head.mask_head{stage}.loss_mask',), _third_argument),
    }


def with_classes(regions: Sequence[Tensor], classes: Sequence[Tensor], like: Tensor) -> Tensor:
    """Put what :func:`positive_regions` read together: (n, 6) with image index, box and class.

    Args:
        regions: At most one tensor (n, 5); none if a cascade ended before its last stage.
        classes: At most one tensor (n,); none if there is no positive region.
        like: A tensor of the same device.
    """
    if not regions or not classes:
        return like.new_zeros((0, 6))
    return torch.cat([regions[0], classes[0].unsqueeze(1).to(regions[0].dtype)], dim=1)


def of_their_classes(masks: Tensor, regions: Tensor) -> Tensor:
    """Choose of masks (n, K, h, w) of regions (n, 6) the channel of each region's class: (n, 1, h, w).

    The others are what no loss has ever taught: a mask head learns the class of a region only.
    """
    return masks[torch.arange(len(masks), device=masks.device), regions[:, 5].long()].unsqueeze(1)


def mask_scores(head: Any, levels: Sequence[Tensor], rois: Tensor) -> Tensor:
    """Mask logits (n, K, h, w) of given regions (n, 5); of a cascade those of the stages' mean, as it predicts.

    Args:
        head: A RoI head for which :func:`scores_masks` holds.
        levels: Feature maps.
        rois: Image index and box.
    """
    stages = _stages(head)
    if not isinstance(head.mask_head, nn.ModuleList):
        return head._mask_forward(levels, rois)['mask_preds']
    found = [head._mask_forward(stage, levels, rois)['mask_preds'].sigmoid() for stage in range(len(stages))]
    return torch.stack(found).mean(dim=0).logit(eps=1e-6)


def _stages(head: Any) -> list[Any]:
    return list(head.mask_head) if isinstance(head.mask_head, nn.ModuleList) else [head.mask_head]


def _second_argument(args: Any, _kwargs: Any, _output: Any) -> list[Tensor]:
    return [args[1]]


def _third_argument(args: Any, _kwargs: Any, _output: Any) -> list[Tensor]:
    return [args[2]]
