"""LD: localisation distillation for heads that predict a distribution of each side's distance.

Zheng et al., CVPR 2022, arXiv 2102.12252; the distributions are those of GFL (Li et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadm.functional.boxes import EPS, box_overlap, enclosing_corners
from mmadm.functional.common import check_mask, check_pair, check_tau, softened

Bins = Literal['mean', 'sum']


def distribution_divergence(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor | None = None,
    tau: float = 10.0,
    bins: Bins = 'mean',
    normalizer: Tensor | float = 1.0,
) -> Tensor:
    """``tau^2 / Z sum w KL(softmax(t / tau) || softmax(s / tau))`` of rows of bins (paper, equation 5).

    Args:
        student: Logits of the bins (P, n + 1), a row for each side of a box, or maps (N, n + 1, ...).
        teacher: The same shape.
        weights: Of rows (P,) or positions (N, ...), 0 where one does not count; 1 by default. Constant: the caller
            detaches them.
        tau: Temperature, above 0.
        bins: Whether the terms of a row's bins are averaged, as LD's program does, or summed, as CrossKD's.
        normalizer: ``Z``.

    Returns:
        A scalar in float32; 0 if there are no rows.

    Raises:
        ValueError: If shapes differ, bins is unknown or tau is not positive.
    """
    check_pair('distribution_divergence', student, teacher)
    check_mask('distribution_divergence', weights, student)
    check_tau('distribution_divergence', tau)
    if bins not in get_args(Bins):
        raise ValueError(f'distribution_divergence: bins must be one of {get_args(Bins)}, found {bins!r}')
    log_student, log_teacher = (softened(z, tau).log_softmax(dim=1) for z in (student, teacher))
    per_bin = F.kl_div(log_student, log_teacher, reduction='none', log_target=True)
    per_row = per_bin.sum(dim=1) / (per_bin.shape[1] if bins == 'mean' else 1)
    return tau**2 * (per_row if weights is None else per_row * weights).sum() / normalizer


def expected_distances(logits: Tensor) -> Tensor:
    """Distances to the four sides, ``sum_k k softmax(z)_k`` of each side's bins 0 to n.

    Args:
        logits: Shape (P, 4 * (n + 1)), in the order (side, bin).

    Returns:
        Shape (P, 4) in float32, in strides of the level.
    """
    sides = logits.float().reshape(len(logits), 4, logits.shape[1] // 4).softmax(dim=2)
    return sides @ torch.arange(sides.shape[2], dtype=sides.dtype, device=sides.device)


def localization_regions(
    anchors: Tensor, anchors_per_level: Sequence[int], boxes: Tensor, topk: int = 9, gamma: float = 0.25
) -> tuple[Tensor, Tensor]:
    """Which priors of an image are positive, and how valuable each is for localisation (paper, section 3.3).

    Args:
        anchors: Priors (A, 4) of all levels as (x1, y1, x2, y2).
        anchors_per_level: How many of them each level has, in their order.
        boxes: Ground truth (n, 4); n may be 0.
        topk: Nearest priors of each level that ATSS considers for a box.
        gamma: Share of a box's threshold from which a prior is valuable.

    Returns:
        ATSS assignment (A,): 0 for the background, j + 1 for box j. And the valuable region (A,): of the boxes with
        ``gamma thr_j <= DIoU < thr_j`` the highest IoU, 0 without any; ``thr_j`` is the mean plus the unbiased
        deviation of the IoUs of the priors that ATSS considers. The published program divides the overlap in its DIoU
        by the prior's area; here it is the union, as in the paper.
    """
    if not len(boxes):
        return anchors.new_zeros(len(anchors), dtype=torch.long), anchors.new_zeros(len(anchors))
    anchors, boxes = anchors.float(), boxes.float()
    iou, _ = box_overlap(anchors[:, None], boxes)
    first, last = enclosing_corners(anchors[:, None], boxes)
    centres, box_centres = ((x[:, :2] + x[:, 2:]) / 2 for x in (anchors, boxes))
    squares = (centres[:, None] - box_centres).square().sum(dim=2)
    diou = iou - squares / (last - first).square().sum(dim=2).clamp(min=EPS)

    starts = [sum(anchors_per_level[:level]) for level in range(len(anchors_per_level))]
    nearest = torch.cat(
        [
            start + level.topk(min(topk, len(level)), dim=0, largest=False).indices
            for start, level in zip(starts, torch.split(squares, list(anchors_per_level)), strict=True)
        ]
    )
    considered = iou.gather(0, nearest)
    threshold = considered.mean(dim=0) + considered.std(dim=0)

    # a positive is considered, overlaps enough and has its centre inside; of several boxes the best counts
    sides = torch.cat([centres[:, None] - boxes[:, :2], boxes[:, 2:] - centres[:, None]], dim=2)
    candidate = torch.zeros_like(iou, dtype=torch.bool).scatter_(0, nearest, True)
    chosen = candidate & (iou >= threshold) & (sides.amin(dim=2) > 0.01)
    best, box = iou.masked_fill(~chosen, -1.0).max(dim=1)
    positive = (box + 1).where(best >= 0, 0)
    valuable = (diou >= gamma * threshold) & (diou < threshold)
    return positive, (iou * valuable).amax(dim=1)
