"""Asymmetric Decision-Making (ICML 2025, arXiv 2503.06685; methods.md, section 1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Edge, Outputs, TapSpec, edges_between, matched, names
from mmadm.functional import Region, consensus_from_map, consensus_loss, divergence_from_map, region_weights
from mmadm.functional.foreground import foreground_share, inside_boxes
from mmadm.modules import AvatarEnsemble
from mmadm.registry import MODELS
from mmadm.structures import RoleOutput
from mmadm.utils.errors import ConfigError


@MODELS.register_module()
class ADM(Distiller):
    """The student strengthens what it shares with the teacher, the teacher explores where the student cannot follow.

    ``consensus * L_co`` moves the students (and connectors), ``divergence * L_di`` the trainable teachers. Every
    ordered (student, teacher) pair counts; terms are averaged over taps, levels and partners. Add it to any other
    distiller. The equations are a reconstruction, see methods.md, section 1.

    Args:
        student: Role name, or several.
        teacher: Role name, or several.
        at: Tap name, dict from role to tap name, or a list of these.
        consensus: Weight (alpha) of ``L_co``.
        divergence: Weight (beta) of ``L_di``.
        tau: Temperature of the position weights.
        region: ``softmax``, ``topk`` or ``uniform``.
        share: Share of positions that ``topk`` keeps.
        foreground: For detectors: log how much of the consensus weight lies inside ground-truth boxes
            (``<student>.foreground``) and, to compare, the share of the map that they cover
            (``<student>.foreground_area``); a level with no position inside a box counts as 0 in both.
        avatars: Options of :class:`~mmadm.modules.AvatarEnsemble`: the consensus looks at perturbed copies of the
            teacher's map, trainable or not.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If a role is both student and teacher.
    """

    def __init__(
        self,
        student: str | Sequence[str] = 'student',
        teacher: str | Sequence[str] = 'teacher',
        at: TapSpec | Sequence[TapSpec] = 'feats',
        consensus: float = 1.0,
        divergence: float = 0.1,
        tau: float = 0.1,
        region: Region = 'softmax',
        share: float = 0.5,
        foreground: bool = False,
        avatars: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        students, teachers = names(student, 'ADM.student'), names(teacher, 'ADM.teacher')
        both = sorted(set(students) & set(teachers))
        if both:
            raise ConfigError(f'ADM: role {both[0]!r} is both student and teacher')
        self.consensus = consensus
        self.divergence = divergence
        self.foreground = foreground
        self.avatars = None if avatars is None else AvatarEnsemble.from_cfg(avatars)
        self.options: dict[str, Any] = {'tau': tau, 'region': region, 'share': share}
        # an unknown region or a bad tau shall fail while the config is read, not at the first iteration
        try:
            consensus_from_map(torch.zeros(1, 1, 1), **self.options)
        except ValueError as error:
            raise ConfigError(f'ADM: {error}') from error
        self._edges = edges_between([(s, t) for s in students for t in teachers], at, 'ADM')

    @property
    def weighted(self) -> bool:
        """Whether any loss has a weight and a role that learns from it."""
        return any(any(self._learns(edge)) for edge in self._edges)

    def bind(self, probe: Outputs, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Infer the connectors, see :meth:`Distiller.bind`.

        Raises:
            ConfigError: Also if a tap gives no maps: there are no positions to weigh.
        """
        for edge in self.edges():
            for tensor in probe[edge.learner].taps[edge.learner_tap]:
                if tensor.dim() != 4:
                    raise ConfigError(
                        f'ADM.at: tap {edge.learner_tap!r} of {edge.learner!r} gives no maps (N, C, h, w) but '
                        f'tensors of {tensor.dim()} dimensions; tap `feats` or a module that gives maps'
                    )
        return super().bind(probe, trainable)

    def moves(self, edge: Edge) -> bool:
        """Whether the consensus loss reaches this student."""
        return self._learns(edge)[0]

    def edges(self) -> list[Edge]:
        """One edge for each (student, teacher) pair and tap; the student carries the connector."""
        return self._edges

    def forward(self, outputs: Outputs, connectors: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Return ``<student>.loss_consensus``, ``<teacher>.loss_divergence`` and ``<student>.similarity``."""
        terms: dict[str, list[Tensor]] = {}
        for edge in self._edges:
            student_learns, teacher_learns = self._learns(edge)
            if not (student_learns or teacher_learns):
                continue
            for student, teacher in matched(edge, outputs, connectors):
                # one map serves both losses: its two factors are unit vectors, each detached for the other's learner
                unit_s, unit_t = F.normalize(student.float(), dim=1), F.normalize(teacher.float(), dim=1)
                if student_learns:
                    similarity = (unit_s * unit_t.detach()).sum(dim=1)
                    if self.avatars is None:
                        term = self.consensus * consensus_from_map(similarity, **self.options)
                    else:
                        term = self.consensus * self.avatars(self._consensus, student, teacher.detach())[0]
                    terms.setdefault(f'{edge.learner}.loss_consensus', []).append(term)
                if teacher_learns:
                    similarity = (unit_s.detach() * unit_t).sum(dim=1)
                    term = self.divergence * divergence_from_map(similarity, **self.options)
                    terms.setdefault(f'{edge.source}.loss_divergence', []).append(term)
                terms.setdefault(f'{edge.learner}.similarity', []).append(similarity.detach().mean())
                for name, value in self._foreground(outputs[edge.learner], similarity.detach()).items():
                    terms.setdefault(f'{edge.learner}.{name}', []).append(value)
        return {key: torch.stack(values).mean() for key, values in terms.items()}

    def _consensus(self, student: Tensor, avatar: Tensor) -> Tensor:
        return consensus_loss(student, avatar, **self.options)

    def _foreground(self, output: RoleOutput, similarity: Tensor) -> dict[str, Tensor]:
        """Share of the consensus weight inside ground-truth boxes, and the share of the map that they cover."""
        if not self.foreground or output.gt_boxes is None or output.valid is None:
            return {}
        inside = inside_boxes(output.gt_boxes, tuple(output.valid.shape[1:]), tuple(similarity.shape[1:]))
        uniform = torch.full_like(similarity, 1 / similarity[0].numel())
        return {
            'foreground': foreground_share(region_weights(similarity, **self.options), inside),
            'foreground_area': foreground_share(uniform, inside),
        }

    def _learns(self, edge: Edge) -> tuple[bool, bool]:
        return (
            self.consensus != 0 and edge.learner in self.trainable,
            self.divergence != 0 and edge.source in self.trainable,
        )
