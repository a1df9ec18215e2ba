"""Decoupled knowledge distillation as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from mmadm.functional import decoupled_kl
from mmadm.losses.checks import checked_tau
from mmadm.registry import MODELS
from mmadm.utils.errors import ConfigError


@MODELS.register_module()
class DecoupledKL(nn.Module):
    """DKD: the true class and the rest weighted apart (Zhao et al., CVPR 2022; methods.md, section 5).

    Args:
        tau: Temperature.
        alpha: Weight of (true class, all others).
        beta: Weight of the distribution over the others.

    Raises:
        ConfigError: If tau is not positive.
    """

    needs: ClassVar[tuple[str, ...]] = ('mask', 'binary', 'labels')

    def __init__(self, tau: float = 4.0, alpha: float = 1.0, beta: float = 8.0) -> None:
        super().__init__()
        self.tau = checked_tau('DecoupledKL', tau)
        self.alpha = alpha
        self.beta = beta

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        mask: Tensor | None = None,
        binary: bool = False,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Compare logits (N, K, ...).

        Args:
            student: The learner's logits.
            teacher: The source's logits, same shape.
            mask: True at valid positions, shape (N, ...).
            binary: Whether each class has a sigmoid of its own.
            labels: True classes, shape (N, ...).

        Returns:
            A scalar.

        Raises:
            ConfigError: If the tap has no labels, or sigmoids in place of one softmax.
        """
        if binary or labels is None:
            found = 'a sigmoid per class' if binary else 'logits without a label at each position'
            raise ConfigError(f'DecoupledKL: needs logits of one softmax and their labels, found {found}')
        return decoupled_kl(student, teacher, labels, self.tau, self.alpha, self.beta, mask)
