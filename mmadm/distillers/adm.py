"""Asymmetric Decision-Making (ICML 2025, arXiv 2503.06685; methods.md, section 1)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Facts, mean_of
from mmadm.distillers.class_targets import objects_at
from mmadm.distillers.grids import moved_onto
from mmadm.distillers.pairs import Edge, Outputs, Pair, TapSpec, edges_between, level_key, levels_of, names, paired
from mmadm.functional import (
    Region,
    attention_map,
    consensus_from_map,
    consensus_loss,
    divergence_from_map,
    region_weights,
    similarity_map,
)
from mmadm.functional.common import valid_mean
from mmadm.functional.foreground import chance_overlap, foreground_overlap, foreground_share
from mmadm.modules import AvatarEnsemble
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, SimilarityMaps, Step
from mmadm.utils.errors import ConfigError

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

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Infer the connectors, see :meth:`Distiller.bind`.

        Raises:
            ConfigError: Also if a tap gives no maps: there are no positions to weigh.
        """
        for edge in self.edges():
            found = facts[edge.learner.role].output.taps[edge.learner]
            if any(level.dim() != 4 for level in found.levels):
                raise ConfigError(
                    f'ADM.at: tap {str(edge.learner)!r} of {edge.learner.role!r} gives no maps (N, C, h, w) but '
                    f'{found.kind.value} of {found.levels[0].dim()} dimensions; tap `feats` or a module that gives maps'
                )
        return super().bind(facts, trainable)

    def moves(self, edge: Edge) -> bool:
        """Whether the consensus loss reaches this student."""
        return self._learns(edge)[0]

    def edges(self) -> list[Edge]:
        """One edge for each (student, teacher) pair and tap; the student carries the connector."""
        return self._edges

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<student>.loss_consensus``, ``<teacher>.loss_divergence`` and the monitor ``.similarity``."""
        losses: dict[str, list[Tensor]] = {}
        monitors: dict[str, list[Tensor]] = {}
        for edge in self._edges:
            if not any(self._learns(edge)):
                continue
            similarities = []
            for pair in paired(edge, outputs, step.connectors):
                similarities.append(self._add_losses(edge, pair, losses))
                mean = valid_mean('ADM', similarities[-1], pair.context.mask)
                monitors.setdefault(f'{edge.learner.role}.similarity', []).append(mean)
            if step.iteration == 0 or (step.iteration + 1) % OBSERVED_EVERY == 0:
                for key, value in self._observations(edge, similarities, outputs):
                    monitors.setdefault(key, []).append(value)
        return DistillerOutput(*({key: mean_of(values) for key, values in d.items()} for d in (losses, monitors)))

    def _add_losses(self, edge: Edge, pair: Pair, losses: dict[str, list[Tensor]]) -> Tensor:
        """Add the losses of one level; returns its similarity map without gradient."""
        student_learns, teacher_learns = self._learns(edge)
        student, teacher, mask = pair.learner, pair.source, pair.context.mask
        # a map for each loss, which do not share a graph: a teacher may pause, and its graph with it
        similarity = similarity_map(student, teacher.detach(), mask)
        if student_learns:
            if self.avatars is None:
                term = consensus_from_map(similarity, **self.options, mask=mask)
            else:
                loss = partial(consensus_loss, **self.options, mask=mask)
                term = self.avatars(loss, student, teacher.detach(), mask=mask)[0]
            losses.setdefault(f'{edge.learner.role}.loss_consensus', []).append(self.consensus * term)
        if teacher_learns:
            for_teacher = similarity_map(student.detach(), teacher, mask)
            term = divergence_from_map(for_teacher, **self.options, mask=mask)
            losses.setdefault(f'{edge.source.role}.loss_divergence', []).append(self.divergence * term)
        return similarity.detach()

    @torch.no_grad()
    def similarity_maps(self, name: str, outputs: Outputs, step: Step) -> list[SimilarityMaps]:
        """Similarity and position weights of one image at every tap and level.

        Args:
            name: What the maps are called by.
            outputs: Taps of the roles on one image.
            step: For the connectors.
        """
        found = []
        for edge in self._edges:
            pairs, grids = paired(edge, outputs, step.connectors), levels_of(edge, outputs)[1]
            for level, (pair, grid) in enumerate(zip(pairs, grids, strict=True)):
                similarity = similarity_map(pair.learner, pair.source, pair.context.mask)
                rows, columns = grid.image_cells(0)
                maps = [similarity]
                for sign in (1, -1):
                    weights = region_weights(sign * similarity, **self.options, mask=pair.context.mask)
                    maps.append(weights.unflatten(1, similarity.shape[1:]) * (rows * columns))
                shown = [values.mean(dim=0, keepdim=True)[:, :rows, :columns] for values in maps]
                key = f'{name}_{level_key(edge, level, len(pairs))}'
                found.append(SimilarityMaps(key, edge.learner.role, edge.source.role, *shown))
        return found

    @torch.no_grad()
    def _observations(
        self, edge: Edge, similarities: Sequence[Tensor], outputs: Outputs
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield how the maps of each level lie on ground-truth objects, see ``foreground``."""
        if self.foreground is False:
            return
        classes = None if self.foreground is True else self.foreground
        student_role, teacher_role = edge.learner.role, edge.source.role
        mine, theirs, _ = levels_of(edge, outputs)
        for similarity, of_student, grid in zip(similarities, mine, theirs, strict=True):
            objects, mask = objects_at(outputs[student_role], grid, classes), grid.image_mask()
            if objects is None:
                return
            weights = region_weights(similarity, **self.options, mask=mask)
            uniform = region_weights(similarity, tau=1.0, region='uniform', share=1.0, mask=mask)
            yield f'{student_role}.foreground', foreground_share(weights, objects, mask)
            yield f'{student_role}.foreground_area', foreground_share(uniform, objects, mask)
            yield f'{student_role}.overlap_chance', chance_overlap(objects, mask)
            strengths = moved_onto(of_student, grid, attention_map(of_student.values)), attention_map(grid.values)
            # one sort for all three: each call costs as much as a small loss
            scores = torch.stack([similarity, *(strength.squeeze(1) for strength in strengths)])
            keys = ('overlap_similar', 'overlap_active', 'overlap_active')
            roles = (student_role, student_role, teacher_role)
            for role, key, value in zip(roles, keys, foreground_overlap(scores, objects, mask), strict=True):
                yield f'{role}.{key}', value

    def _learns(self, edge: Edge) -> tuple[bool, bool]:
        return (
            self.consensus != 0 and edge.learner.role in self.trainable,
            self.divergence != 0 and edge.source.role in self.trainable,
        )
