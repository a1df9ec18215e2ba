"""CIRKD: relations between the pixels of several images (Yang et al., CVPR 2022, arXiv 2204.06986)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmadm.functional.common import check_mask, check_pair, check_tau, valid_mean

#: Elements of a block of similarities: 64 MiB in float32, of which up to nine are there at once
BLOCK = 2**24


def cross_image_divergence(student: Tensor, teacher: Tensor, tau: float = 0.1, mask: Tensor | None = None) -> Tensor:
    """How the similarities of each pixel to those of every image differ (paper, equations 3 and 4).

    ``1 / N^2 sum_ab 1 / P sum_i KL(softmax(S^t_ab,i / tau) || softmax(S^s_ab,i / tau))`` with the cosines
    ``S_ab = E_a^T E_b`` of all ordered pairs of images, an image with itself included. The similarities of 8,192 pixels
    would take 256 MiB for each pair and role: they are made in blocks of rows, and made again for the gradient.

    Args:
        student: Embeddings of shape (N, C, H, W).
        teacher: Embeddings (N, D, H, W); channels may differ.
        tau: Temperature, above 0.
        mask: True where a position counts, shape (N, H, W); all positions by default. A pair compares the positions of
            its two images; one with an image without any adds 0.

    Returns:
        A scalar in float32; 0 if the input is empty.

    Raises:
        ValueError: If numbers of images or positions differ or tau is not positive.
    """
    check_pair('cross_image_divergence', student[:, :1], teacher[:, :1], least_dims=3)
    check_mask('cross_image_divergence', mask, student)
    check_tau('cross_image_divergence', tau)
    own, other = _unit_rows(student), _unit_rows(teacher)
    images, positions = len(student), student[0, 0].numel() if len(student) else 0
    if not images * positions:
        return own.sum()
    valid = torch.ones(images, positions, device=own.device) if mask is None else mask.flatten(1).to(own.dtype)
    hidden = None if mask is None else ~mask.flatten(1)

    def divergence(rows_student: Tensor, rows_teacher: Tensor) -> Tensor:
        """Of some rows (R, C) the divergence to the pixels of each image (R, N)."""
        scores = []
        for rows, columns in ((rows_student, own), (rows_teacher, other)):
            scores.append(_hidden((rows @ columns.T / tau).reshape(-1, images, positions), hidden))
        return _divergence(*scores)

    per_row = _in_blocks(divergence, own, other, images * positions)
    # the mean over the rows of image a that count; where none of image b does, both distributions are uniform
    weights = (valid / valid.sum(dim=1, keepdim=True).clamp(min=1.0)).flatten()
    return (per_row * weights[:, None]).sum() / images**2


def memory_divergence(
    student: Tensor,
    teacher: Tensor,
    entries: Tensor,
    tau: float = 0.1,
    kd_tau: float = 1.0,
    mask: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """How the similarities of each pixel to what a memory holds differ (paper, equations 6 to 9).

    ``kd_tau^2 * KL(softmax(V e_t / (tau kd_tau)) || softmax(V e_s / (tau kd_tau)))`` over all entries V, the mean over
    the positions that count. Like :func:`cross_image_divergence` it is computed in blocks of rows.

    Args:
        student: Embeddings of shape (N, C, H, W), brought to the teacher's channels.
        teacher: The same shape.
        entries: The teacher's unit vectors (M, C), such as :meth:`~mmadm.modules.ClassQueue.draw` gives; M may be 0.
        tau: Temperature of the similarities, above 0.
        kd_tau: Temperature of the distillation, above 0.
        mask: True where a position counts, such as a labelled pixel, shape (N, H, W); all positions by default.
        known: True where an entry counts, shape (M,); all by default.

    Returns:
        A scalar in float32; 0 if no position or no entry counts.

    Raises:
        ValueError: If shapes differ or a temperature is not positive.
    """
    check_pair('memory_divergence', student, teacher, least_dims=3)
    check_mask('memory_divergence', mask, student)
    if entries.dim() != 2 or entries.shape[1] != student.shape[1]:
        raise ValueError(
            f'memory_divergence: entries {tuple(entries.shape)} do not fit embeddings {tuple(student.shape)}'
        )
    for temperature in (tau, kd_tau):
        check_tau('memory_divergence', temperature)

    def divergence(*rows: Tensor) -> Tensor:
        """Of some rows (R, C) the divergence (R,)."""
        scores = (row @ entries.float().T / (tau * kd_tau) for row in rows)
        return _divergence(*(_hidden(score, None if known is None else ~known) for score in scores))

    own = _unit_rows(student)
    per_row = _in_blocks(divergence, own, _unit_rows(teacher), len(entries)) if len(own) else own.sum(dim=1)
    return kd_tau**2 * valid_mean('memory_divergence', per_row, None if mask is None else mask.flatten())


def class_means(feature: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Direction of each class in each image: the mean of its pixels' unit vectors, brought to length 1 again.

    Args:
        feature: Embeddings of shape (N, C, H, W).
        labels: Class ids of shape (N, H, W). A position whose label is no class (the ignore label) does not count.
        classes: Number K of classes.

    Returns:
        Means of shape (N, K, C) in float32, 0 where a class is absent, and whether it is present, bool (N, K).

    Raises:
        ValueError: If the labels have another shape.
    """
    check_mask('class_means', labels, feature)
    members = _members(labels, classes)
    with torch.autocast(feature.device.type, enabled=False):
        sums = members.to(torch.float32) @ _unit_rows(feature).unflatten(0, (len(feature), -1))
    return F.normalize(sums, dim=2), members.any(dim=2)


def class_samples(
    feature: Tensor, labels: Tensor, classes: int, noise: Tensor, number: int = 16
) -> tuple[Tensor, Tensor]:
    """Unit vectors of some pixels of each class in each image, at random (paper, section 3.3).

    Args:
        feature: Embeddings of shape (N, C, H, W).
        labels: Class ids of shape (N, H, W). A position whose label is no class (the ignore label) does not count.
        classes: Number K of classes.
        noise: At least 0, shape (N, H, W): of each class the pixels with most of it are taken.
        number: Pixels n of a class at most, in each image.

    Returns:
        Vectors of shape (N, K, n, C) in float32, and which of them are pixels of the class, bool (N, K, n).

    Raises:
        ValueError: If labels or noise have another shape.
    """
    for values in (labels, noise):
        check_mask('class_samples', values, feature)
    order = noise.flatten(1).unsqueeze(1).where(_members(labels, classes), -1.0)
    found, pixels = order.topk(min(number, order.shape[2]), dim=2)
    rows = _unit_rows(feature).unflatten(0, (len(feature), -1))
    chosen = rows.gather(1, pixels.flatten(1).unsqueeze(2).expand(-1, -1, rows.shape[2]))
    return chosen.unflatten(1, pixels.shape[1:]), found >= 0


def _members(labels: Tensor, classes: int) -> Tensor:
    """Which pixels are of each class, bool (N, K, P); one_hot would look at the labels."""
    return labels.flatten(1).unsqueeze(1) == torch.arange(classes, device=labels.device).unsqueeze(1)


def _hidden(scores: Tensor, hidden: Tensor | None) -> Tensor:
    # finite, half of the least: minus infinity would make the difference of two such positions NaN
    return scores if hidden is None else scores.masked_fill(hidden, torch.finfo(scores.dtype).min / 2)


def _unit_rows(feature: Tensor) -> Tensor:
    """Unit vectors (N * P, C) of an embedding (N, C, ...), in float32."""
    return F.normalize(feature.float(), dim=1).flatten(2).transpose(1, 2).flatten(0, 1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    log_student, log_teacher = student.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
    return F.kl_div(log_student, log_teacher, reduction='none', log_target=True).sum(dim=-1)


def _in_blocks(function: Callable[[Tensor, Tensor], Tensor], own: Tensor, other: Tensor, columns: int) -> Tensor:
    """Apply a function to as many rows at a time as make a block of so many columns."""
    size = max(1, BLOCK // max(columns, 1))
    # autocast would take the products in half precision, and the temperature multiplies what it loses
    with torch.autocast(own.device.type, enabled=False):
        blocks = [
            checkpoint(function, *rows, use_reentrant=False, preserve_rng_state=False)
            for rows in zip(torch.split(own, size), torch.split(other, size), strict=True)
        ]
    return torch.cat(blocks)
