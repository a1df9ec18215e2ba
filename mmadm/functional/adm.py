"""Asymmetric Decision-Making (ICML 2025, arXiv 2503.06685; methods.md, section 1).

The equations are a reconstruction from the paper's abstract and public summaries, not a copy of the authors' code.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

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
    _check_maps(student, teacher)
    similarity, *_ = _cosine(student.float(), teacher.float())  # squares of half precision features overflow
    return similarity


def _check_maps(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape or student.dim() != 4:
        raise ValueError(
            f'similarity_map: expected two maps of one shape (N, C, H, W), found student {tuple(student.shape)} '
            f'and teacher {tuple(teacher.shape)}'
        )


def _cosine(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The similarity map and the squared lengths; two thirds of the time of F.cosine_similarity."""
    of_student, of_teacher = (x.square().sum(dim=1) for x in (student, teacher))
    similarity = (student * teacher).sum(dim=1) * _inverse_length(of_student) * _inverse_length(of_teacher)
    return similarity, of_student, of_teacher


def similarity_sides(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The similarity map as each side sees it: ``S(student, sg(teacher))`` and ``S(sg(student), teacher)``.

    Both have the values of :func:`similarity_map` and take half of the time of two calls of it.

    Args:
        student: Features of shape (N, C, H, W).
        teacher: Features of the same shape.

    Returns:
        Two maps of shape (N, H, W) in float32: the first has a gradient to the student alone, the second to the
        teacher alone.

    Raises:
        ValueError: If the shapes differ.
    """
    _check_maps(student, teacher)
    sides: tuple[Tensor, Tensor] = _Sides.apply(student.float(), teacher.float())  # type: ignore[no-untyped-call]
    return sides


class _Sides(torch.autograd.Function):
    """One pass for two maps whose gradients go to one side each."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the map; nothing of the features' size is kept but they themselves."""
        similarity, *squares = _cosine(student, teacher)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(student, teacher, similarity, *squares)
        return similarity, similarity.clone()

    @staticmethod
    def backward(ctx: Any, to_student: Tensor | None, to_teacher: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Send each map's gradient to its own side."""
        student, teacher, similarity, *squares = ctx.saved_tensors
        return (
            None if to_student is None else _to_side(to_student, student, teacher, similarity, *squares),
            None if to_teacher is None else _to_side(to_teacher, teacher, student, similarity, *squares[::-1]),
        )


def _to_side(
    gradient: Tensor, own: Tensor, other: Tensor, similarity: Tensor, own_square: Tensor, other_square: Tensor
) -> Tensor:
    """``dS / d own``: towards the other's direction, less what would only make it longer."""
    own_inverse, other_inverse = _inverse_length(own_square), _inverse_length(other_square)
    towards = gradient * own_inverse * other_inverse
    # below the floor the length counts as constant
    along = gradient * similarity * own_inverse.square() * (own_square >= FLOOR)
    return torch.addcmul(towards.unsqueeze(1) * other, along.unsqueeze(1), own, value=-1.0)


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
