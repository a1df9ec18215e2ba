"""Masked generative distillation (Yang et al., ECCV 2022, arXiv 2205.01529; methods.md, section 5)."""

from __future__ import annotations

from torch import Tensor

from mmadm.functional.common import check_mask, check_pair


def generation_distance(generated: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared difference of the generated and the teacher's features, summed per image, the mean over images.

    The sum over positions is the published form (paper, equation 3); the published weights (2e-5, 5e-7) belong to it.

    Args:
        generated: What the learner's generation block made, shape (N, C, H, W).
        teacher: The same shape.
        mask: True where a position counts, shape (N, H, W); all positions by default. The sum over positions is that
            of each image's own, so a larger image weighs more.

    Returns:
        A scalar in float32; 0 if there is no image.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('generation_distance', generated, teacher)
    check_mask('generation_distance', mask, generated)
    difference = generated.float() - teacher.float()
    if mask is not None:
        difference = difference * mask.unsqueeze(1)
    return difference.square().sum() / max(len(generated), 1)
