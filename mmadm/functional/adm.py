"""Asymmetric Decision-Making (ICML 2025, arXiv 2503.06685; methods.md, section 1).

The equations are a reconstruction from the paper's abstract and public summaries, not a copy of the authors' code.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Region = Literal['softmax', 'topk', 'uniform']
#: Least square of a feature's length: keeps the gradient at positions of zeros within float16
FLOOR = 1e-8


def similarity_map(student: Tensor, teacher: Tensor) -> Tensor:
    """Cosine similarity of two feature maps at every position.

    Args:
        student: Features of shape (N, C, H, W).
        teacher: Features of the same shape.

    Returns:
        ``S`` of shape (N, H, W) in float32, between -1 and 1.

    Raises:
        ValueError: If the shapes differ.
    """
    similarity, *_ = cosine_parts(student.float(), teacher.float())  # squares of half precision features overflow
    return similarity


def cosine_parts(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`similarity_side` needs of two float32 maps (N, C, H, W): ``S`` and both squared lengths (N, H, W).

    Raises:
        ValueError: If the shapes differ.
    """
    if student.shape != teacher.shape or student.dim() != 4:
        raise ValueError(
            f'similarity_map: expected two maps of one shape (N, C, H, W), found student {tuple(student.shape)} '
            f'and teacher {tuple(teacher.shape)}'
        )
    of_student, of_teacher = (x.square().sum(dim=1) for x in (student, teacher))
    # two thirds of the time of F.cosine_similarity
    similarity = (student * teacher).sum(dim=1) * _inverse_length(of_student) * _inverse_length(of_teacher)
    return similarity, of_student, of_teacher


def similarity_side(own: Tensor, other: Tensor, similarity: Tensor, of_own: Tensor, of_other: Tensor) -> Tensor:
    """The similarity map with a gradient to one side alone, from what :func:`cosine_parts` has computed for both.

    Student and teacher see the same values, so one pass over the features serves the losses of both.

    Args:
        own: Features of the side that learns, shape (N, C, H, W), float32.
        other: Features of the other side, same shape; the caller detaches them.
        similarity: ``S`` of shape (N, H, W), without gradient.
        of_own: Squared lengths of the own features, same shape.
        of_other: Squared lengths of the other features, same shape.

    Returns:
        ``S`` as a function of the own features.
    """
    side: Tensor = _Side.apply(own, other, similarity, of_own, of_other)  # type: ignore[no-untyped-call]
    return side


class _Side(torch.autograd.Function):
    """A known map with the gradient of one of the two features that it was made from."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, other: Tensor, similarity: Tensor, of_own: Tensor, of_other: Tensor) -> Tensor:
        """Return the known map."""
        ctx.save_for_backward(own, other, similarity, of_own, of_other)
        return similarity.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Towards the other's direction, less what would only make the own feature longer."""
        own, other, similarity, of_own, of_other = ctx.saved_tensors
        own_inverse = _inverse_length(of_own)
        towards = gradient * own_inverse * _inverse_length(of_other)
        # below the floor the length counts as constant
        along = gradient * similarity * own_inverse.square() * (of_own >= FLOOR)
        found = torch.addcmul(towards.unsqueeze(1) * other, along.unsqueeze(1), own, value=-1.0)
        return found, None, None, None, None


def _inverse_length(square: Tensor) -> Tensor:
    return square.clamp(min=FLOOR).rsqrt()


def region_weights(score: Tensor, tau: float, region: Region, share: float) -> Tensor:
    """Constant weights that sum to 1 over the positions of each image.

    Args:
        score: What to prefer, shape (N, H, W); high counts most.
        tau: Temperature of ``softmax``.
        region: ``softmax`` over positions, ``topk`` (equal weights on the best share) or ``uniform``.
        share: Share of positions that ``topk`` keeps, in (0, 1].

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
        if region == 'softmax':
            return (flat / tau).softmax(dim=1)
        if region == 'uniform':
            return torch.full_like(flat, 1 / flat.shape[1])
        count = max(1, round(share * flat.shape[1]))
        return torch.zeros_like(flat).scatter_(1, flat.topk(count, dim=1).indices, 1 / count)


def consensus_from_map(similarity: Tensor, tau: float = 0.1, region: Region = 'softmax', share: float = 0.5) -> Tensor:
    """``L_co`` on a similarity map (N, H, W); see :func:`consensus_loss`."""
    weights = region_weights(similarity, tau, region, share)
    return (weights * (1 - similarity.flatten(1))).sum(dim=1).mean()


def divergence_from_map(similarity: Tensor, tau: float = 0.1, region: Region = 'softmax', share: float = 0.5) -> Tensor:
    """``L_di`` on a similarity map (N, H, W); see :func:`divergence_loss`."""
    weights = region_weights(-similarity, tau, region, share)
    # the floor keeps the teacher from running into anti-correlation
    return (weights * similarity.flatten(1).clamp(min=0)).sum(dim=1).mean()


def consensus_loss(
    student: Tensor, teacher: Tensor, tau: float = 0.1, region: Region = 'softmax', share: float = 0.5
) -> Tensor:
    """``L_co = sum_i w_i (1 - S_i)``, ``w = softmax(S / tau)``: agree more where agreement is high already.

    Args:
        student: Features of shape (N, C, H, W).
        teacher: Features of the same shape; the caller detaches them.
        tau: Temperature of the position weights.
        region: See :func:`region_weights`.
        share: See :func:`region_weights`.

    Returns:
        A scalar, the mean over images.

    Raises:
        ValueError: If shapes differ or an option is out of range.
    """
    return consensus_from_map(similarity_map(student, teacher), tau, region, share)


def divergence_loss(
    student: Tensor, teacher: Tensor, tau: float = 0.1, region: Region = 'softmax', share: float = 0.5
) -> Tensor:
    """``L_di = sum_i v_i max(S_i, 0)``, ``v = softmax(-S / tau)``: differ more where agreement is low already.

    Args:
        student: Features of shape (N, C, H, W); the caller detaches them.
        teacher: Features of the same shape.
        tau: Temperature of the position weights.
        region: See :func:`region_weights`.
        share: See :func:`region_weights`.

    Returns:
        A scalar, the mean over images.

    Raises:
        ValueError: If shapes differ or an option is out of range.
    """
    return divergence_from_map(similarity_map(student, teacher), tau, region, share)
