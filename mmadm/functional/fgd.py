"""FGD: focal and global distillation of features (Yang et al., CVPR 2022, arXiv 2111.11837).

Every term is summed over channels and positions and divided by the number of images: the published weights belong to
256 channels and images of COCO's size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmadm.functional.common import check_mask, check_pair, check_tau


def fgd_attention(feature: Tensor, tau: float = 0.5, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Where and in which channels a feature is strong (paper, equations 5 and 6); each attention has mean 1.

    Args:
        feature: Shape (N, C, H, W).
        tau: Temperature, above 0.
        mask: True where a position counts, shape (N, H, W); all positions by default. Each image's attention is over
            its own positions; elsewhere it is 0.

    Returns:
        ``A_S = H W softmax_i(mean_c |F| / tau)`` of shape (N, H, W) and ``A_C = C softmax_c(mean_i |F| / tau)`` of
        shape (N, C), in float32.

    Raises:
        ValueError: If the feature is no map, the mask has another shape or tau is not positive.
    """
    if feature.dim() != 4:
        raise ValueError(f'fgd_attention: expected a map (N, C, H, W), found {tuple(feature.shape)}')
    check_mask('fgd_attention', mask, feature)
    check_tau('fgd_attention', tau)
    strength = feature.float().abs().flatten(2)
    of_position = strength.mean(dim=1) / tau
    if mask is None:
        of_channel = strength.mean(dim=2)
        spatial = strength.shape[2] * of_position.softmax(dim=1)
    else:
        valid = mask.flatten(1)
        count = valid.sum(dim=1, keepdim=True)
        of_channel = (strength * valid.unsqueeze(1)).sum(dim=2) / count.clamp(min=1)
        # finite, so that an image of which no position counts gets no NaN
        inside = of_position.masked_fill(~valid, torch.finfo(of_position.dtype).min)
        spatial = count * inside.softmax(dim=1)
    channel = feature.shape[1] * (of_channel / tau).softmax(dim=1)
    return spatial.reshape(feature.shape[:1] + feature.shape[2:]), channel


def fgd_masks(
    boxes: Sequence[Tensor], image_size: tuple[float, float], map_size: tuple[int, int], mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weights of the cells of a map that lie in a box, and of all others (paper, equations 2 and 3).

    A box takes the cells from that of its first to that behind its last pixel; its value is 1 / their number, of which
    those beyond the map are counted too, as in the published program. Where boxes overlap, the smallest counts.

    Args:
        boxes: Of each of N images, shape (n, 4) as (x1, y1, x2, y2) in pixels; n may be 0.
        image_size: Height and width of the padded input in pixels, the same for all images.
        map_size: Height and width of the map.
        mask: True where a cell is image, shape (N, H, W); all cells by default. The others are neither.

    Returns:
        Foreground and background, each of shape (N, H, W) in float32. Without a box the foreground is 0; the
        background is 1 / (number of cells in no box) on these.

    Raises:
        ValueError: If the mask has another shape.
    """
    foreground = torch.stack([_of_smallest_box(of_image, image_size, map_size) for of_image in boxes])
    check_mask('fgd_masks', mask, foreground.unsqueeze(1))
    outside = foreground == 0
    if mask is not None:
        foreground, outside = foreground * mask, outside & mask
    return foreground, outside / outside.sum(dim=(1, 2), keepdim=True).clamp(min=1)


def _of_smallest_box(boxes: Tensor, image_size: tuple[float, float], map_size: tuple[int, int]) -> Tensor:
    """The largest value of any box at each cell (H, W), 0 in none."""
    inside, values = [], torch.ones(len(boxes), device=boxes.device)
    for axis, start, end in ((0, 1, 3), (1, 0, 2)):
        first, last = (boxes[:, side].float() / image_size[axis] * map_size[axis] for side in (start, end))
        first, last = first.floor(), last.ceil()
        cells = torch.arange(map_size[axis], device=boxes.device)
        inside.append((cells >= first[:, None]) & (cells <= last[:, None]))
        values = values / (last - first + 1)
    covered = inside[0][:, :, None] & inside[1][:, None, :]
    # one row of zeros, as there may be no box
    return torch.cat([covered * values[:, None, None], covered.new_zeros((1, *map_size))]).amax(dim=0)


def fgd_feature_distance(
    student: Tensor,
    teacher: Tensor,
    foreground: Tensor,
    background: Tensor,
    tau: float = 0.5,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``1 / N sum_nci M A_S A_C (F_s - F_t)^2`` with the teacher's attention (paper, equation 8, without its weights).

    Args:
        student: Features of shape (N, C, H, W).
        teacher: The same shape.
        foreground: See :func:`fgd_masks`.
        background: See :func:`fgd_masks`.
        tau: Temperature of the attention.
        mask: True where a position counts, shape (N, H, W); all positions by default.

    Returns:
        Two scalars in float32, of the foreground and of the background.

    Raises:
        ValueError: If shapes differ or tau is not positive.
    """
    check_pair('fgd_feature_distance', student, teacher, least_dims=4)
    for weights in (foreground, background):
        check_mask('fgd_feature_distance', weights, student)
    spatial, channel = fgd_attention(teacher, tau, mask)
    squared = (student.float() - teacher.float()).square()
    per_position = (squared * channel[:, :, None, None]).sum(dim=1) * spatial
    images = max(len(student), 1)
    return (per_position * foreground).sum() / images, (per_position * background).sum() / images


def fgd_attention_distance(student: Tensor, teacher: Tensor, tau: float = 0.5, mask: Tensor | None = None) -> Tensor:
    """Absolute difference of both attentions, summed and divided by the number of images (paper, equation 9).

    Args:
        student: Features of shape (N, C, H, W).
        teacher: The same shape.
        tau: Temperature of the attention.
        mask: True where a position counts, shape (N, H, W); all positions by default.

    Returns:
        A scalar in float32.

    Raises:
        ValueError: If shapes differ or tau is not positive.
    """
    check_pair('fgd_attention_distance', student, teacher, least_dims=4)
    pairs = zip(fgd_attention(student, tau, mask), fgd_attention(teacher, tau, mask), strict=True)
    spatial, channel = ((own - other).abs().sum() for own, other in pairs)
    return (spatial + channel) / max(len(student), 1)
