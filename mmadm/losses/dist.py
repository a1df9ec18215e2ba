"""DIST as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from mmadm.functional import dist_distance
from mmadm.losses.checks import checked_tau
from mmadm.registry import MODELS


@MODELS.register_module()
class DIST(nn.Module):
    """Relations between classes and between positions (Huang et al., NeurIPS 2022; methods.md, section 5).

    Args:
        tau: Temperature.
        inter: Weight of the relation between the classes of a position.
        intra: Weight of the relation between the positions of a class.

    Raises:
        ConfigError: If tau is not positive.
    """

    needs: ClassVar[tuple[str, ...]] = ('mask', 'binary')

    def __init__(self, tau: float = 1.0, inter: float = 1.0, intra: float = 1.0) -> None:
        super().__init__()
        self.tau = checked_tau('DIST', tau)
        self.inter = inter
        self.intra = intra

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None, binary: bool = False) -> Tensor:
        """Compare logits (N, K, ...); see :class:`~mmadm.losses.kl.KLDivergence`. Returns a scalar."""
        return dist_distance(student, teacher, self.tau, self.inter, self.intra, mask, binary)
