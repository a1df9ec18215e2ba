"""Localization Distillation (Zheng et al., CVPR 2022, arXiv 2102.12252; methods_more.md, section 4)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Facts, sum_of
from mmadm.distillers.dense_levels import check_dense, positives_at, targets_for, taught_at
from mmadm.distillers.grids import grids_of
from mmadm.distillers.pairs import Edge, Outputs, edges_between
from mmadm.functional import distribution_divergence, kl_divergence, localization_regions
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, Kind, RoleOutput, Step
from mmadm.utils.errors import ConfigError


@MODELS.register_module()
class LD(Distiller):
    """A detector with box distributions (GFL) learns a teacher's, where objects are and around there.

    Three terms, all with the weights published for GFL. The distributions of positives, each weighted by the student's
    own confidence (paper, equation 5). Those of the valuable region, the priors around the positives, weighted by
    their overlap (section 3.3; with the DIoU of the paper, not the program's). And the classes of positives by one
    softmax, the mean over those of each level. The first two are sums over priors, as in the published program.

    Args:
        source: Role that is looked at.
        learner: Role that learns.
        positives: Weight of the distributions of positives.
        region: Weight of those of the valuable region.
        classification: Weight of the classes of positives.
        tau: Temperature of the distributions.
        class_tau: Temperature of the classes.
        by_positives: Divide the first two terms by the number of positives, so that they do not grow with a batch.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If source and learner are the same role, or a temperature is not positive.
    """

    def __init__(
        self,
        source: str = 'teacher',
        learner: str = 'student',
        positives: float = 0.25,
        region: float = 0.25,
        classification: float = 10.0,
        tau: float = 10.0,
        class_tau: float = 2.0,
        by_positives: bool = False,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        if source == learner:
            raise ConfigError(f'LD.source={source!r}: must differ from learner')
        for key, value in (('tau', tau), ('class_tau', class_tau)):
            if value <= 0:
                raise ConfigError(f'LD.{key}={value!r}: a temperature must be above 0')
        self.learner = learner
        self.weights = dict(positives=positives, region=region, classification=classification)
        self.tau, self.class_tau = tau, class_tau
        self.by_positives = by_positives
        self._scores, self._boxes = edges_between([(learner, source)], ['logits', 'boxes'], 'LD')

    @property
    def weighted(self) -> bool:
        """Whether any weight is not 0 and the learner is trainable."""
        return any(self.weights.values()) and self.learner in self.trainable

    def edges(self) -> list[Edge]:
        """Class scores and boxes."""
        return [self._scores, self._boxes]

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Check that priors, classes and distributions correspond, see :meth:`Distiller.bind`.

        Raises:
            ConfigError: Also if a head predicts no distributions, or the two of different numbers of bins.
        """
        for tap in (self._boxes.learner, self._boxes.source):
            found = facts[tap.role].output.taps[tap].kind
            if found is not Kind.BOX_DISTRIBUTIONS:
                raise ConfigError(
                    f'LD: role {tap.role!r} predicts boxes without distributions ({found.value}), which only GFL and '
                    'its kin have; what fits others is BCKD or CrossKD'
                )
        self._heads = check_dense('LD', self.edges(), facts)
        return super().bind(facts, trainable)

    def connector(self, edge: Edge, in_channels: int, out_channels: int) -> None:
        """None; ConfigError if two distributions have different bins."""
        if in_channels != out_channels:
            raise ConfigError(
                f'LD: role {edge.learner.role!r} predicts {in_channels} bins for each side of a box, '
                f'{edge.source.role!r} {out_channels}; give both heads the same reg_max'
            )

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<learner>.loss_ld_<term>`` for each term with a weight; see :class:`Distiller`."""
        learner = outputs[self.learner]
        targets, weights = targets_for('LD', learner, self.learner)
        own, taught = learner.taps[self._boxes.learner].levels, taught_at(self._boxes, outputs)
        scores, classes = learner.taps[self._scores.learner].levels, taught_at(self._scores, outputs)
        found = positives_at(targets, scores, weights)
        total = targets.positives if self.by_positives else 1.0
        terms: dict[str, Tensor] = {}
        if self.weights['positives']:
            confident = [s.detach().float().sigmoid().amax(dim=1) * p for s, p in zip(scores, found, strict=True)]
            terms['positives'] = self._distributions(own, taught, confident, 4 * total)
        if self.weights['region']:
            terms['region'] = self._distributions(own, taught, self._valuable(learner, weights), 16 * total)
        if self.weights['classification']:
            terms['classification'] = sum_of(
                [
                    kl_divergence(s, t, self.class_tau, p) / s.shape[1]
                    for s, t, p in zip(scores, classes, found, strict=True)
                ]
            )
        return DistillerOutput(
            {f'{self.learner}.loss_ld_{name}': self.weights[name] * term for name, term in terms.items()}
        )

    def _distributions(
        self, own: Sequence[Tensor], taught: Sequence[Tensor], weights: Sequence[Tensor], total: Tensor | float
    ) -> Tensor:
        """Divergence of the four distributions of each prior, of all levels."""
        of_sides = [weight.repeat_interleave(4, dim=0) for weight in weights]
        levels = zip(own, taught, of_sides, strict=True)
        return sum_of([distribution_divergence(s, t, w, self.tau, normalizer=total) for s, t, w in levels])

    @torch.no_grad()
    def _valuable(self, learner: RoleOutput, weights: Sequence[Tensor]) -> list[Tensor]:
        """How valuable each prior (N, h, w) of each level is, 0 where it does not count."""
        cells = [grid.cells for grid in grids_of(learner, self._scores.learner)]
        priors = self._heads[self.learner].priors(cells, weights[0].device)
        counts = [len(level) for level in priors]
        regions = [localization_regions(torch.cat(priors), counts, boxes)[1] for boxes in learner.truth.boxes or ()]
        levels = torch.stack(regions).split(counts, dim=1)
        return [level.reshape(w.shape) * (w > 0) for level, w in zip(levels, weights, strict=True)]
