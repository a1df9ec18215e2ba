"""The KL divergence as a registered module."""

from __future__ import annotations

from torch import Tensor, nn

from mmadm.functional import kl_divergence
from mmadm.registry import MODELS


@MODELS.register_module()
class KLDivergence(nn.Module):
    """``tau^2 KL(p_teacher || p_student)`` per position (Hinton et al. 2015; methods.md, section 5).

    Args:
        tau: Temperature.
    """

    def __init__(self, tau: float = 4.0) -> None:
        super().__init__()
        self.tau = tau

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compare logits (N, K, ...); mask (N, ...) is True at valid positions. Returns a scalar."""
        return kl_divergence(student, teacher, self.tau, mask)
