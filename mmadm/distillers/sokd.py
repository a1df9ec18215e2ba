"""Semi-online knowledge distillation (Liu et al., BMVC 2021, arXiv 2111.11747; methods.md, section 4)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from mmadm.distillers.base import Distiller, Facts, class_divergence
from mmadm.distillers.pairs import Edge, Outputs, TapSpec, edges_between, paired
from mmadm.losses.kl import ClassDivergence, Normaliser
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, Step
from mmadm.utils.errors import ConfigError


@MODELS.register_module()
class SOKD(Distiller):
    """A bridge between a frozen teacher and the student learns from both, and the student learns from the bridge.

    The bridge learns ``a2 KL(sg(p_t) || p_b) + a3 KL(sg(p_s) || p_b)``, the student ``b2 KL(sg(p_b) || p_s)``, each
    times tau^2 and beside their task losses. The bridge is a role of the teacher's network of which only the tail
    learns: ``bridge=dict(like='teacher', train=['backbone.layer4', 'decode_head'])``. What comes before is the
    teacher's own, so the tail sees the teacher's features, and the whole can be deployed as an improved teacher.

    Args:
        student: Role name.
        teacher: Role name; frozen.
        bridge: Role name.
        at: Tap name, or dict from role to tap name.
        tau: Temperature; by default 4, and 1 where each class has a sigmoid.
        bridge_from_teacher: ``a2``.
        bridge_from_student: ``a3``.
        student_from_bridge: ``b2``.
        normaliser: See :class:`~mmadm.losses.kl.ClassDivergence`.
        schedule: See :class:`Distiller`.
    """

    def __init__(
        self,
        student: str = 'student',
        teacher: str = 'teacher',
        bridge: str = 'bridge',
        at: TapSpec = 'logits',
        tau: float | None = None,
        bridge_from_teacher: float = 1.0,
        bridge_from_student: float = 1.0,
        student_from_bridge: float = 1.0,
        normaliser: Normaliser = 'positives',
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        self.teacher = teacher
        self.divergence = ClassDivergence('SOKD', tau, normaliser, usual_tau=4.0)
        pairs = [(bridge, teacher), (bridge, student), (student, bridge)]
        weights = (bridge_from_teacher, bridge_from_student, student_from_bridge)
        self._weighted_edges = list(zip(edges_between(pairs, at, 'SOKD'), weights, strict=True))

    @property
    def weighted(self) -> bool:
        """Whether any weight is not 0."""
        return any(weight != 0 for _, weight in self._weighted_edges)

    def edges(self) -> list[Edge]:
        """Bridge to teacher, bridge to student, student to bridge."""
        return [edge for edge, _ in self._weighted_edges]

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Check that classes and levels match, see :meth:`Distiller.bind`.

        Raises:
            ConfigError: Also if the teacher learns, or bridge or student do not.
        """
        if self.teacher in trainable:
            raise ConfigError(
                f'SOKD: role {self.teacher!r} learns; add it to model.frozen, the bridge learns in its place'
            )
        for edge in self.edges():
            if edge.learner.role not in trainable:
                raise ConfigError(
                    f'SOKD: role {edge.learner.role!r} is frozen, so it cannot learn; remove it from model.frozen'
                )
        return super().bind(facts, trainable)

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<learner>.loss_from_<source>`` for each of the three; see :class:`Distiller`."""
        losses = {}
        for edge, weight in self._weighted_edges:
            if weight == 0:
                continue
            term = class_divergence(paired(edge, outputs, step.connectors), self.divergence)
            losses[f'{edge.learner.role}.loss_from_{edge.source.role}'] = weight * term
        return DistillerOutput(losses)
