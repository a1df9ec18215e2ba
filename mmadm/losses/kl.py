"""The KL divergence as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from mmadm.functional import binary_kl_divergence, kl_divergence
from mmadm.losses.checks import checked_tau
from mmadm.registry import MODELS


@MODELS.register_module()
class KLDivergence(nn.Module):
    """``tau^2 KL(p_teacher || p_student)`` per position (Hinton et al. 2015; methods.md, section 5).

    Args:
        tau: Temperature.

    Raises:
        ConfigError: If tau is not positive.
    """

    needs: ClassVar[tuple[str, ...]] = ('mask', 'binary')

    def __init__(self, tau: float = 4.0) -> None:
        super().__init__()
        self.tau = checked_tau('KLDivergence', tau)

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None, binary: bool = False) -> Tensor:
        """Compare logits (N, K, ...).

        Args:
            student: The learner's logits.
            teacher: The source's logits, same shape.
            mask: True at valid positions, shape (N, ...).
            binary: Whether each class has a sigmoid of its own.

        Returns:
            A scalar.
        """
        divergence = binary_kl_divergence if binary else kl_divergence
        return divergence(student, teacher, self.tau, mask)
