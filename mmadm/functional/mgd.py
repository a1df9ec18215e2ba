"""Masked generative distillation (Yang et al., ECCV 2022, arXiv 2205.01529; methods.md, section 5)."""

from __future__ import annotations

from torch import Tensor

from mmadm.functional.common import check_pair


def generation_distance(generated: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the generated and the teacher's features, summed per image, the mean over images.

    The sum over positions is the published form (paper, equation 3); the published weights (2e-5, 5e-7) belong to it.

    Args:
        generated: What the learner's generation block made, shape (N, C, H, W).
        teacher: The same shape.

    Returns:
        A scalar in float32; 0 if there is no image.

    Raises:
        ValueError: If the shapes differ.
    """
    check_pair('generation_distance', generated, teacher)
    return (generated.float() - teacher.float()).square().sum() / max(len(generated), 1)
