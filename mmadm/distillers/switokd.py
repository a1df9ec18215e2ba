"""Switchable online knowledge distillation (Qian et al., ECCV 2022, arXiv 2209.04996; methods.md, section 5)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Facts, class_divergence
from mmadm.distillers.class_targets import check_class_maps
from mmadm.distillers.pairs import Edge, Outputs, Pair, TapSpec, edges_between, paired
from mmadm.functional.switokd import switch_distances, switch_from_distances
from mmadm.losses.kl import ClassDivergence, Normaliser
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, Step
from mmadm.utils.errors import ConfigError
from mmadm.utils.ranks import mean_over_ranks


@MODELS.register_module()
class SwitOKD(Distiller):
    """Mutual learning in which the teacher pauses while it is too far ahead of the student.

    In expert mode the teacher neither learns nor moves: weights, momentum and normalisation statistics stay as they
    are. The decision is one scalar for each iteration, the same on all ranks.

    Args:
        student: Role name.
        teacher: Role name; exactly one.
        at: Tap name, or dict from role to tap name.
        tau: Temperature.
        weight: Factor on both losses.
        normaliser: See :class:`~mmadm.losses.kl.ClassDivergence`.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If several teachers are named.
    """

    def __init__(
        self,
        student: str = 'student',
        teacher: str = 'teacher',
        at: TapSpec = 'logits',
        tau: float = 1.0,
        weight: float = 1.0,
        normaliser: Normaliser = 'mean',
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        for key, value in (('student', student), ('teacher', teacher)):
            if not isinstance(value, str):
                raise ConfigError(f'SwitOKD.{key}={value!r}: takes one role, the switch compares two networks')
        if student == teacher:
            raise ConfigError(f'SwitOKD.teacher={teacher!r}: must differ from student')
        self.student = student
        self.teacher = teacher
        self.tau = tau
        self.divergence = ClassDivergence('SwitOKD', tau, normaliser)
        self.weight = weight
        self._edges = edges_between([(student, teacher), (teacher, student)], at, 'SwitOKD')

    @property
    def weighted(self) -> bool:
        """Whether the weight is not 0."""
        return self.weight != 0

    def edges(self) -> list[Edge]:
        """Student to teacher, and back."""
        return self._edges

    @property
    def may_pause(self) -> frozenset[str]:
        """The teacher."""
        return frozenset({self.teacher})

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Check that classes and levels match, see :meth:`Distiller.bind`.

        Raises:
            ConfigError: Also if a role is frozen or the logits are no class maps.
        """
        found = super().bind(facts, trainable)
        for edge in self._edges:
            role = edge.learner.role
            if role not in trainable:
                raise ConfigError(f'SwitOKD: role {role!r} is frozen, both must learn; use Transfer instead')
            check_class_maps('SwitOKD', edge.learner, facts[role])
        return found

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<role>.loss_switokd`` of both, and whether the teacher pauses, logged as ``<teacher>.expert``."""
        losses = {}
        of_student, of_teacher = (paired(edge, outputs, step.connectors) for edge in self._edges)
        for role, pairs in ((self.student, of_student), (self.teacher, of_teacher)):
            losses[f'{role}.loss_switokd'] = self.weight * class_divergence(pairs, self.divergence)
        expert = self._expert(of_student)
        return DistillerOutput(losses, {f'{self.teacher}.expert': expert.float()}, {self.teacher: expert})

    def _expert(self, pairs: Sequence[Pair]) -> Tensor:
        """Whether the teacher pauses; the distances are means over levels and ranks."""
        of_levels = []
        for student, teacher, context in pairs:
            labels = context.labels()
            assert labels is not None  # class maps have labels
            of_levels.append(torch.stack(switch_distances(student, teacher, labels, self.tau, context.mask)))
        distances = torch.stack(of_levels).mean(dim=0)
        return switch_from_distances(*mean_over_ranks(distances).unbind()).expert
