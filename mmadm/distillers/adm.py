"""Asymmetric Decision-Making (ICML 2025, arXiv 2503.06685; methods.md, section 1)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Edge, Outputs, TapSpec, edges_between, levels_of, matched, mean_of, names
from mmadm.distillers.truth import objects_like
from mmadm.functional import (
    Region,
    attention_map,
    consensus_from_map,
    consensus_loss,
    divergence_from_map,
    region_weights,
    similarity_map,
)
from mmadm.functional.foreground import chance_overlap, foreground_overlap, foreground_share
from mmadm.modules import AvatarEnsemble, resize_like
from mmadm.registry import MODELS
from mmadm.utils.errors import ConfigError
from mmadm.utils.random import current_iteration

#: A log shows the newest observation alone, where its interval is a multiple of this that of its own iteration
OBSERVED_EVERY = 10


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
        foreground: Log how the maps lie on ground-truth objects: True for what is inside boxes, a list of class ids
            for the objects of a semantic segmentation. ``<student>.foreground`` is their share of the consensus
            weight, ``<student>.foreground_area`` of the map; ``overlap_similar`` the IoU of the objects with as many
            of the most similar positions, ``<role>.overlap_active`` with those where a role's features are strongest,
            ``<student>.overlap_chance`` with random ones. A level without objects counts as 0. They are looked at in
            the first and in every tenth iteration.
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
        foreground: bool | Sequence[int] = False,
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
            pairs, similarities = matched(edge, outputs, connectors), []
            for student, teacher in pairs:
                # a map for each loss, which do not share a graph: a teacher may pause, and its graph with it
                similarity = similarity_map(student, teacher.detach())
                if student_learns:
                    if self.avatars is None:
                        term = self.consensus * consensus_from_map(similarity, **self.options)
                    else:
                        term = self.consensus * self.avatars(self._consensus, student, teacher.detach())[0]
                    terms.setdefault(f'{edge.learner}.loss_consensus', []).append(term)
                if teacher_learns:
                    for_teacher = similarity_map(student.detach(), teacher)
                    term = self.divergence * divergence_from_map(for_teacher, **self.options)
                    terms.setdefault(f'{edge.source}.loss_divergence', []).append(term)
                similarities.append(similarity.detach())
                terms.setdefault(f'{edge.learner}.similarity', []).append(similarities[-1].mean())
            for key, value in self._observations(edge, similarities, outputs):
                terms.setdefault(key, []).append(value)
        return {key: mean_of(values) for key, values in terms.items()}

    def _consensus(self, student: Tensor, avatar: Tensor) -> Tensor:
        return consensus_loss(student, avatar, **self.options)

    @torch.no_grad()
    def _observations(
        self, edge: Edge, similarities: Sequence[Tensor], outputs: Outputs
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield how the maps of each level lie on ground-truth objects, see ``foreground``."""
        if self.foreground is False:
            return
        iteration = current_iteration()
        if iteration and (iteration + 1) % OBSERVED_EVERY:
            return
        classes = None if self.foreground is True else self.foreground
        for similarity, student, teacher in zip(similarities, *levels_of(edge, outputs), strict=True):
            objects = objects_like(outputs[edge.learner], teacher, classes)
            if objects is None:
                return
            weights = region_weights(similarity, **self.options)
            uniform = torch.full_like(weights, 1 / weights.shape[1])
            yield f'{edge.learner}.foreground', foreground_share(weights, objects)
            yield f'{edge.learner}.foreground_area', foreground_share(uniform, objects)
            yield f'{edge.learner}.overlap_chance', chance_overlap(objects)
            strengths = (resize_like(attention_map(student), teacher), attention_map(teacher))
            # one sort for all three: each call costs as much as a small loss
            scores = torch.stack([similarity, *(strength.squeeze(1) for strength in strengths)])
            keys = ('overlap_similar', 'overlap_active', 'overlap_active')
            roles = (edge.learner, edge.learner, edge.source)
            for role, key, value in zip(roles, keys, foreground_overlap(scores, objects), strict=True):
                yield f'{role}.{key}', value

    def _learns(self, edge: Edge) -> tuple[bool, bool]:
        return (
            self.consensus != 0 and edge.learner in self.trainable,
            self.divergence != 0 and edge.source in self.trainable,
        )
