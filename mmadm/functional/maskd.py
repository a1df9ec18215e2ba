"""Masked distillation with receptive tokens (Huang et al., ICLR 2023, arXiv 2205.14589; methods.md, section 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from mmadm.functional.common import check_mask, check_pair, valid_mean


def receptive_masks(tokens: Tensor, feature: Tensor) -> Tensor:
    """``m_t = sigmoid(token_t . F_i)``: the positions that a token is receptive to.

    Args:
        tokens: Shape (T, C).
        feature: The teacher's features (N, C, H, W).

    Returns:
        Masks of shape (N, T, H, W), between 0 and 1, in float32.

    Raises:
        ValueError: If the channels differ.
    """
    if tokens.dim() != 2 or feature.dim() != 4 or tokens.shape[1] != feature.shape[1]:
        raise ValueError(
            f'receptive_masks: expected tokens (T, C) and features (N, C, H, W) of the same C, found '
            f'{tuple(tokens.shape)} and {tuple(feature.shape)}'
        )
    # autocast would take the products in half precision
    with torch.autocast(feature.device.type, enabled=False):
        return torch.einsum('tc,nchw->nthw', tokens.float(), feature.float()).sigmoid()


def masked_distance(student: Tensor, teacher: Tensor, masks: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared difference of the masked features, each mask's share divided by its sum.

    ``1 / (N T C) * sum_ntc [sum_i (m_nti (F_s - F_t)_nci)^2 / sum_i m_nti]`` as in the published program, without its
    learnt weights of the tokens.

    Args:
        student: Features of shape (N, C, H, W).
        teacher: The same shape.
        masks: Of the tokens, shape (N, T, H, W), between 0 and 1.
        mask: True where a position counts, shape (N, H, W); all positions by default. Elsewhere no token looks; an
            image without any adds 0 to the mean over images.

    Returns:
        A scalar in float32; 0 if there is no image.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('masked_distance', student, teacher, least_dims=4)
    if masks.dim() != 4 or masks.shape[0] != student.shape[0] or masks.shape[2:] != student.shape[2:]:
        raise ValueError(f'masked_distance: masks {tuple(masks.shape)} do not fit features {tuple(student.shape)}')
    # channels are averaged first: the maps (N, T, C, H, W) of the formula are never made
    squared = (student.float() - teacher.float()).square().mean(dim=1)
    masks = _inside('masked_distance', masks, mask)
    weights = masks.square() / masks.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    return valid_mean('masked_distance', (weights.mean(dim=1) * squared).sum(dim=(1, 2)))


def mask_similarity(masks: Tensor, mask: Tensor | None = None) -> Tensor:
    """Dice coefficient of each pair of an image's masks, averaged: low where the tokens look at different places.

    It is what the training of tokens minimises besides the teacher's task loss, so that they do not become one.

    Args:
        masks: Shape (N, T, H, W), between 0 and 1.
        mask: True where a position counts, shape (N, H, W); all positions by default. An image without any adds 0 to
            the mean over images.

    Returns:
        A scalar in float32 between 0 (disjoint) and 1 (equal); 0 if there is one token only.

    Raises:
        ValueError: If the shape is another.
    """
    if masks.dim() != 4:
        raise ValueError(f'mask_similarity: expected masks (N, T, H, W), found {tuple(masks.shape)}')
    flat = _inside('mask_similarity', masks, mask).flatten(2)
    # autocast would sum the products in half precision, which overflows on a large map
    with torch.autocast(flat.device.type, enabled=False):
        products = flat @ flat.transpose(1, 2)
    squares = flat.square().sum(dim=2)
    dice = 2 * products / (squares.unsqueeze(1) + squares.unsqueeze(2)).clamp(min=1e-12)
    first, second = torch.triu_indices(flat.shape[1], flat.shape[1], offset=1, device=masks.device)
    return valid_mean('mask_similarity', dice[:, first, second])


def _inside(name: str, masks: Tensor, mask: Tensor | None) -> Tensor:
    check_mask(name, mask, masks)
    return masks.float() if mask is None else masks.float() * mask.unsqueeze(1)
