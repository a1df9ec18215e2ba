"""Avatar knowledge distillation (Zhang et al., ACM MM 2023, arXiv 2305.02722; methods.md, section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmadm.functional.common import centred, channel_statistics, check_mask, check_pair


def avatar_uncertainty(teacher: Tensor, avatar: Tensor, eps: float = 1e-6, mask: Tensor | None = None) -> Tensor:
    """``u_m``: how unevenly over the channels an avatar's statistics depart from the teacher's.

    Per channel ``d = [mu(A) - mu(F), sigma(A) - sigma(F)] / (sigma(F) + eps)`` over all images and positions;
    ``u = Var_c(d)``, the mean over the two statistics.

    Args:
        teacher: Features of shape (N, C, ...).
        avatar: The perturbed copy, same shape.
        eps: Keeps a constant channel from dividing by 0.
        mask: True where a position counts, shape (N, ...); see :func:`~mmadm.functional.channel_statistics`.

    Returns:
        A scalar in float32 without gradient; 0 if the input is empty, as where a detector has no region of interest.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('avatar_uncertainty', teacher, avatar)
    return uncertainty_between(channel_statistics(teacher, mask), channel_statistics(avatar, mask), eps)


def uncertainty_between(teacher: tuple[Tensor, Tensor], avatar: tuple[Tensor, Tensor], eps: float = 1e-6) -> Tensor:
    """:func:`avatar_uncertainty` from :func:`channel_statistics`; the teacher's serve all avatars."""
    with torch.no_grad():
        (mean_t, std_t), (mean_a, std_a) = teacher, avatar
        departure = torch.stack([mean_a - mean_t, std_a - std_t]) / (std_t + eps)
        # correction 0: one channel gives 0, not NaN
        return departure.var(dim=1, correction=0).mean()


def weights_from_uncertainty(uncertainty: Tensor, temperature: float = 1.0) -> Tensor:
    """``lambda_m = M * softmax_m(-u_m / T_u)``: uncertain avatars weigh less, and the mean weight is 1.

    Args:
        uncertainty: ``u_m`` of all avatars, shape (M,).
        temperature: ``T_u``, above 0; high makes the weights equal.

    Returns:
        Weights of shape (M,) without gradient.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f'weights_from_uncertainty: temperature must be above 0, found {temperature}')
    with torch.no_grad():
        return len(uncertainty) * (-uncertainty / temperature).softmax(dim=0)


def avatar_weights(
    teacher: Tensor, avatars: Sequence[Tensor] | Tensor, temperature: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Weight of each avatar's loss in ``L_akd = (1 / M) * sum_m lambda_m * L_base(F_s, A_m)``.

    Where M avatars at once are too many for the memory, collect :func:`avatar_uncertainty` one by one and call
    :func:`weights_from_uncertainty`.

    Args:
        teacher: Features of shape (N, C, ...).
        avatars: M perturbed copies, a list or a stack (M, N, C, ...).
        temperature: See :func:`weights_from_uncertainty`.
        mask: See :func:`avatar_uncertainty`.

    Returns:
        Weights of shape (M,) without gradient; all 1 for equal avatars.

    Raises:
        ValueError: If a shape differs, there is no avatar or the temperature is not positive.
    """
    if not len(avatars):
        raise ValueError('avatar_weights: expected at least one avatar, found none')
    uncertainties = [avatar_uncertainty(teacher, avatar, mask=mask) for avatar in avatars]
    return weights_from_uncertainty(torch.stack(uncertainties), temperature)


def batch_standardise(feature: Tensor, mask: Tensor | None = None) -> Tensor:
    """Standardise each channel over the batch, as a BatchNorm without parameters does in training mode.

    It is what AKD's published program does in place of weights, with one avatar: student and avatar pass it before the
    squared difference, with CWD only the student.

    Args:
        feature: Shape (N, C, ...).
        mask: True where a position counts, shape (N, ...); all positions by default. Mean and variance are those of the
            positions that count in the whole batch, each of which weighs the same; the others become 0.

    Returns:
        The same shape in float32, biased variance, eps 1e-5.

    Raises:
        ValueError: If the mask has another shape.
    """
    check_mask('batch_standardise', mask, feature)
    difference, _, count = centred(feature, mask)
    variance = difference.square().sum(dim=(0, 2)) / count
    return (difference * (variance + 1e-5).rsqrt()[:, None]).reshape(feature.shape)
