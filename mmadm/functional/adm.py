"""Asymmetric Decision-Making (ICML 2025, arXiv 2503.06685; methods.md, section 1).

The equations are a reconstruction from the paper's abstract and public summaries, not a copy of the authors' code.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from mmadm.functional.common import check_mask

Region = Literal['softmax', 'topk', 'uniform']
#: Least square of a feature's length: keeps the gradient at positions of zeros within float16
FLOOR = 1e-8


def similarity_map(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cosine similarity of two feature maps at every position.

    Args:
        student: Features of shape (N, C, H, W).
        teacher: Features of the same shape; the caller detaches the side that does not learn.
        mask: True where a position counts, shape (N, H, W); all positions by default. The others get 0.

    Returns:
        ``S`` of shape (N, H, W) in float32, between -1 and 1.

    Raises:
        ValueError: If the shapes differ.
    """
    if student.shape != teacher.shape or student.dim() != 4:
        raise ValueError(
            f'similarity_map: expected two maps of one shape (N, C, H, W), found student {tuple(student.shape)} '
            f'and teacher {tuple(teacher.shape)}'
        )
    check_mask('similarity_map', mask, student)
    student, teacher = student.float(), teacher.float()  # squares of half precision features overflow
    # two thirds of the time of F.cosine_similarity
    similarity = (student * teacher).sum(dim=1) * _inverse_length(student) * _inverse_length(teacher)
    return similarity if mask is None else similarity.masked_fill(~mask, 0.0)


def _inverse_length(feature: Tensor) -> Tensor:
    return feature.square().sum(dim=1).clamp(min=FLOOR).rsqrt()


def region_weights(score: Tensor, tau: float, region: Region, share: float, mask: Tensor | None = None) -> Tensor:
    """Constant weights that sum to 1 over the positions of each image.

    Args:
        score: What to prefer, shape (N, H, W); high counts most.
        tau: Temperature of ``softmax``.
        region: ``softmax`` over positions, ``topk`` (equal weights on the best share) or ``uniform``.
        share: Share of positions that ``topk`` keeps, in (0, 1].
        mask: True where a position counts, shape (N, H, W); all positions by default. The others weigh 0, and so do
            all positions of an image of which none counts.

    Returns:
        Weights of shape (N, H*W) without gradient.

    Raises:
        ValueError: If region is unknown, tau not positive or share outside (0, 1].
    """
    if region not in get_args(Region):
        raise ValueError(f'region must be one of {get_args(Region)}, found {region!r}')
    if tau <= 0 or not 0 < share <= 1:
        raise ValueError(f'tau must be above 0 and share in (0, 1], found tau={tau}, share={share}')
    with torch.no_grad():
        flat = score.flatten(1)
        if mask is not None:
            return _weights_inside(flat, tau, region, share, mask.flatten(1))
        if region == 'softmax':
            return (flat / tau).softmax(dim=1)
        if region == 'uniform':
            return torch.full_like(flat, 1 / flat.shape[1])
        count = max(1, round(share * flat.shape[1]))
        return torch.zeros_like(flat).scatter_(1, flat.topk(count, dim=1).indices, 1 / count)


def _weights_inside(flat: Tensor, tau: float, region: Region, share: float, valid: Tensor) -> Tensor:
    """Weights (N, P) of the positions that count in each image, of which each has another number."""
    if region == 'softmax':
        # finite, so that an image of which no position counts gets no NaN
        return (flat / tau).masked_fill(~valid, torch.finfo(flat.dtype).min).softmax(dim=1) * valid
    chosen = valid
    if region == 'topk':
        counts = (share * valid.sum(dim=1, keepdim=True).double()).round().clamp(min=1)
        order = flat.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True)
        best = torch.arange(flat.shape[1], device=flat.device) < counts
        chosen = torch.zeros_like(valid).scatter_(1, order, best) & valid
    return chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1)


def consensus_from_map(
    similarity: Tensor,
    tau: float = 0.1,
    region: Region = 'softmax',
    share: float = 0.5,
    mask: Tensor | None = None,
) -> Tensor:
    """``L_co`` on a similarity map (N, H, W); see :func:`consensus_loss`."""
    weights = region_weights(similarity, tau, region, share, mask)
    return (weights * (1 - similarity.flatten(1))).sum(dim=1).mean()


def divergence_from_map(
    similarity: Tensor,
    tau: float = 0.1,
    region: Region = 'softmax',
    share: float = 0.5,
    mask: Tensor | None = None,
) -> Tensor:
    """``L_di`` on a similarity map (N, H, W); see :func:`divergence_loss`."""
    weights = region_weights(-similarity, tau, region, share, mask)
    # the floor keeps the teacher from running into anti-correlation
    return (weights * similarity.flatten(1).clamp(min=0)).sum(dim=1).mean()


def consensus_loss(
    student: Tensor,
    teacher: Tensor,
    tau: float = 0.1,
    region: Region = 'softmax',
    share: float = 0.5,
    mask: Tensor | None = None,
) -> Tensor:
    """``L_co = sum_i w_i (1 - S_i)``, ``w = softmax(S / tau)``: agree more where agreement is high already.

    Args:
        student: Features of shape (N, C, H, W).
        teacher: Features of the same shape; the caller detaches them.
        tau: Temperature of the position weights.
        region: See :func:`region_weights`.
        share: See :func:`region_weights`.
        mask: True where a position counts, shape (N, H, W); all positions by default. Each image is weighed over its
            own positions; one without any adds 0 to the mean over images.

    Returns:
        A scalar, the mean over images.

    Raises:
        ValueError: If shapes differ or an option is out of range.
    """
    return consensus_from_map(similarity_map(student, teacher, mask), tau, region, share, mask)


def divergence_loss(
    student: Tensor,
    teacher: Tensor,
    tau: float = 0.1,
    region: Region = 'softmax',
    share: float = 0.5,
    mask: Tensor | None = None,
) -> Tensor:
    """``L_di = sum_i v_i max(S_i, 0)``, ``v = softmax(-S / tau)``: differ more where agreement is low already.

    Args:
        student: Features of shape (N, C, H, W); the caller detaches them.
        teacher: Features of the same shape.
        tau: Temperature of the position weights.
        region: See :func:`region_weights`.
        share: See :func:`region_weights`.
        mask: True where a position counts, shape (N, H, W); all positions by default. Each image is weighed over its
            own positions; one without any adds 0 to the mean over images.

    Returns:
        A scalar, the mean over images.

    Raises:
        ValueError: If shapes differ or an option is out of range.
    """
    return divergence_from_map(similarity_map(student, teacher, mask), tau, region, share, mask)
