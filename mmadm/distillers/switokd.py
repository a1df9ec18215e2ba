"""Switchable online knowledge distillation (Qian et al., ECCV 2022, arXiv 2209.04996; methods.md, section 5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from mmadm.distillers.base import (
    Distiller,
    Edge,
    Outputs,
    TapSpec,
    class_divergence,
    edges_between,
    matched,
    valid_positions,
)
from mmadm.distillers.truth import check_class_maps, targets_like
from mmadm.functional.switokd import switch_distances, switch_from_distances
from mmadm.registry import MODELS
from mmadm.utils.errors import ConfigError


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

    def bind(self, probe: Outputs, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Check that classes and levels match, see :meth:`Distiller.bind`.

        Raises:
            ConfigError: Also if a role is frozen or the logits are no class maps.
        """
        found = super().bind(probe, trainable)
        for edge in self._edges:
            if edge.learner not in trainable:
                raise ConfigError(f'SwitOKD: role {edge.learner!r} is frozen, both must learn; use Transfer instead')
            check_class_maps('SwitOKD', edge.learner, edge.learner_tap, probe[edge.learner])
        return found

    def forward(self, outputs: Outputs, connectors: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Return ``<role>.loss_switokd`` of both and the monitor ``<teacher>.expert``, 1 where the teacher pauses."""
        found = {}
        for edge in self._edges:
            term = class_divergence(outputs[edge.learner], matched(edge, outputs, connectors), self.tau)
            found[f'{edge.learner}.loss_switokd'] = self.weight * term
        found[f'{self.teacher}.expert'] = self._expert(outputs, connectors)
        return found

    def _expert(self, outputs: Outputs, connectors: Mapping[str, nn.Module]) -> Tensor:
        """1 if the teacher pauses, else 0; the distances are means over levels and ranks."""
        edge, output = self._edges[0], outputs[self.student]
        of_levels = []
        for student, teacher in matched(edge, outputs, connectors):
            targets, mask = targets_like(output, teacher), valid_positions(output, teacher)
            distances = switch_distances(student.detach(), teacher.detach(), targets, self.tau, mask)
            of_levels.append(torch.stack(distances))
        distances = torch.stack(of_levels).mean(dim=0)
        if get_world_size() > 1:
            all_reduce(distances, op='mean')
        return switch_from_distances(*distances.unbind()).expert.float()
