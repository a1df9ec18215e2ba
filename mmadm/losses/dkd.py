"""Decoupled knowledge distillation as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mmadm.functional import decoupled_kl
from mmadm.losses.base import DistillationLoss
from mmadm.losses.checks import checked_tau
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext
from mmadm.utils.errors import ConfigError


@MODELS.register_module()
class DecoupledKL(DistillationLoss):
    """DKD: the true class and the rest weighted apart (Zhao et al., CVPR 2022; methods.md, section 5).

    Args:
        tau: Temperature.
        alpha: Weight of (true class, all others).
        beta: Weight of the distribution over the others.

    Raises:
        ConfigError: If tau is not positive.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.SOFTMAX_SCORES})
    instead: ClassVar[str] = 'KLDivergence, which has a form for sigmoids and distributions'

    def __init__(self, tau: float = 4.0, alpha: float = 1.0, beta: float = 8.0) -> None:
        super().__init__()
        self.tau = checked_tau('DecoupledKL', tau)
        self.alpha = alpha
        self.beta = beta

    def forward(self, student: Tensor, teacher: Tensor, context: PairContext = PairContext()) -> Tensor:
        """Compare logits (N, K, ...).

        Args:
            student: The learner's logits.
            teacher: The source's logits, same shape.
            context: Its labels (N, ...) are needed.

        Returns:
            A scalar.

        Raises:
            ConfigError: If the tap has no labels.
        """
        labels = context.labels()
        if labels is None:
            raise ConfigError('DecoupledKL: needs the label of each position, found logits without; use KLDivergence')
        return decoupled_kl(student, teacher, labels, self.tau, self.alpha, self.beta, context.mask)
