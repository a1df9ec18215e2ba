"""Bridging Cross-task Protocol Inconsistency (Yang et al., ICCV 2023, arXiv 2308.14286; methods_more.md, section 5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from mmadm.distillers.base import Distiller, Facts, sum_of
from mmadm.distillers.dense_levels import boxes_of, check_dense, rows_of, targets_for, taught_at, taught_boxes
from mmadm.distillers.pairs import Edge, Outputs, edges_between
from mmadm.functional import box_distance, focal_binary_divergence
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, Step
from mmadm.utils.errors import ConfigError


@MODELS.register_module()
class BCKD(Distiller):
    """A single-stage detector learns a teacher's class scores one by one, and its boxes where these scores differ.

    ``|p_t - p_s| BCE(p_s, p_t)`` (paper, equation 8) and ``max_c |p_t - p_s| (1 - GIoU)`` (equation 10), both summed
    over all priors that the student's assigner does not ignore and divided by its positives. The weights are those
    published for GFL.

    Args:
        source: Role that is looked at.
        learner: Role that learns.
        classification: Weight of the class scores.
        boxes: Weight of the boxes.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If source and learner are the same role.
    """

    def __init__(
        self,
        source: str = 'teacher',
        learner: str = 'student',
        classification: float = 1.0,
        boxes: float = 4.0,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        if source == learner:
            raise ConfigError(f'BCKD.source={source!r}: must differ from learner')
        self.learner = learner
        self.classification = classification
        self.boxes = boxes
        self._scores, self._regression = edges_between([(learner, source)], ['logits', 'boxes'], 'BCKD')

    @property
    def weighted(self) -> bool:
        """Whether any weight is not 0 and the learner is trainable."""
        return bool(self.classification or self.boxes) and self.learner in self.trainable

    def edges(self) -> list[Edge]:
        """Class scores and boxes."""
        return [self._scores, self._regression]

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Check that priors and classes correspond, see :meth:`Distiller.bind`.

        Raises:
            ConfigError: Also if a role is no single-stage detector with sigmoids.
        """
        self._heads = check_dense('BCKD', self.edges(), facts)
        return super().bind(facts, trainable)

    def connector(self, edge: Edge, in_channels: int, out_channels: int) -> None:
        """None: scores and boxes are compared as they are."""

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<learner>.loss_bckd_cls`` and ``loss_bckd_boxes``, those with a weight; see :class:`Distiller`."""
        learner = outputs[self.learner]
        targets, weights = targets_for('BCKD', learner, self.learner)
        own, taught = learner.taps[self._scores.learner].levels, taught_at(self._scores, outputs)
        losses = {}
        if self.classification:
            terms = [
                focal_binary_divergence(s, t, w, normalizer=targets.positives)
                for s, t, w in zip(own, taught, weights, strict=True)
            ]
            losses[f'{self.learner}.loss_bckd_cls'] = self.classification * sum_of(terms)
        if self.boxes:
            own_boxes = boxes_of(self._regression.learner, outputs, self._heads[self.learner])
            their_boxes = taught_boxes(self._regression, outputs, self._heads[self._regression.source.role])
            differ = [
                (t.float().sigmoid() - s.detach().float().sigmoid()).abs().amax(dim=1) * w
                for s, t, w in zip(own, taught, weights, strict=True)
            ]
            terms = [
                box_distance(rows_of(s), rows_of(t), q.flatten(), normalizer=targets.positives)
                for s, t, q in zip(own_boxes, their_boxes, differ, strict=True)
            ]
            losses[f'{self.learner}.loss_bckd_boxes'] = self.boxes * sum_of(terms)
        return DistillerOutput(losses)
