"""Deep Mutual Learning (Zhang et al., CVPR 2018; methods.md, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

from torch import Tensor

from mmadm.distillers.base import Distiller, class_divergence
from mmadm.distillers.pairs import Edge, Outputs, TapSpec, edges_between, names, paired
from mmadm.losses.kl import ClassDivergence, Normaliser
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, Step
from mmadm.utils.errors import ConfigError


@MODELS.register_module()
class MutualLearning(Distiller):
    """Every role r learns ``weight / (R - 1) * sum_{q != r} KL(sg(p_q) || p_r)``; a frozen role only teaches.

    The mean over levels; see :class:`~mmadm.losses.kl.ClassDivergence` for that over positions and for sigmoids.

    Args:
        roles: At least two role names.
        at: Tap name, or dict from role to tap name.
        tau: Temperature.
        weight: Factor on the loss of every role.
        normaliser: See :class:`~mmadm.losses.kl.ClassDivergence`.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If there are fewer than two roles.
    """

    def __init__(
        self,
        roles: Sequence[str],
        at: TapSpec = 'logits',
        tau: float = 1.0,
        weight: float = 1.0,
        normaliser: Normaliser = 'mean',
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        self.roles = names(roles, 'MutualLearning.roles')
        if len(self.roles) < 2:
            raise ConfigError(f'MutualLearning.roles={list(roles)}: needs at least two roles')
        self.divergence = ClassDivergence('MutualLearning', tau, normaliser)
        self.weight = weight
        self._edges = edges_between(list(permutations(self.roles, 2)), at, 'MutualLearning')

    @property
    def weighted(self) -> bool:
        """Whether the weight is not 0."""
        return self.weight != 0

    def edges(self) -> list[Edge]:
        """One edge for each ordered pair of roles whose learner is trainable (every pair before binding)."""
        return [e for e in self._edges if not self.trainable or e.learner.role in self.trainable]

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<role>.loss_mutual`` for every trainable role; see :class:`Distiller`."""
        losses: dict[str, Tensor] = {}
        for edge in self.edges():
            term = class_divergence(paired(edge, outputs, step.connectors), self.divergence)
            term = term * self.weight / (len(self.roles) - 1)
            key = f'{edge.learner.role}.loss_mutual'
            losses[key] = losses[key] + term if key in losses else term
        return DistillerOutput(losses)
