"""CrossKD: Cross-Head Knowledge Distillation (Wang et al., CVPR 2024, arXiv 2306.11369; methods_more.md, section 3)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Facts, built_connector, sum_of
from mmadm.distillers.dense_levels import check_dense, positives_at, rows_of, targets_for, taught_at
from mmadm.distillers.grids import Grid, grids_of, moved_onto
from mmadm.distillers.pairs import Edge, Outputs, edges_between, level_key
from mmadm.functional import align_statistics, box_distance, distribution_divergence, focal_binary_divergence
from mmadm.functional.boxes import EPS, BoxKind
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, Step, Tap
from mmadm.utils.dense import CrossHead
from mmadm.utils.errors import ConfigError, require_dict
from mmadm.utils.ranks import mean_over_ranks

#: Start and weights by the teacher's kind of head
PUBLISHED: dict[str, dict[str, float]] = {
    'RetinaHead': dict(start=3, classification=1.0, boxes=1.0, centerness=0.0),
    'FCOSHead': dict(start=2, classification=0.4, boxes=0.75, centerness=0.0),
    'ATSSHead': dict(start=3, classification=1.0, boxes=1.0, centerness=1.0),
    'GFLHead': dict(start=3, classification=1.0, boxes=4.0, centerness=0.0),
}


@MODELS.register_module()
class CrossKD(Distiller):
    """The student's features in its head go on through the frozen teacher's, and what comes out mimics the teacher.

    So the student's own predictions see only the labels. On the way features get the teacher's mean and spread, and are
    rectified. Class scores: ``1/Z sum |p_x - p_t| BCE(p_x, p_t)`` over all priors that the student's assigner does not
    ignore. Boxes, each weighted by the teacher's highest score: GIoU, of FCOS the logarithm of the IoU, both divided by
    Z, of GFL the mean divergence of the distributions. Of ATSS also the positives' centerness. Z is the number of the
    student's positives, of FCOS the sum of their centerness: the mean over ranks, at least 1.

    Args:
        source: Role that is looked at; frozen.
        learner: Role that learns.
        start: Number of convolutions in the student's head behind which features go over to the teacher's; 0 takes the
            neck's. By default as published for the teacher's kind of head: 3, of FCOS 2.
        classification: Weight of class scores; by default likewise: 1, of FCOS 0.4.
        boxes: Weight of boxes; by default likewise: 1, of FCOS 0.75, of GFL 4.
        centerness: Weight of the centerness of ATSS; by default likewise: 1.
        connector: Config of a registered module with ``in_channels`` and ``out_channels``, such as
            ``dict(type='Connector')``, for a student's head of other width than the teacher's.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If source and learner are the same role.
    """

    def __init__(
        self,
        source: str = 'teacher',
        learner: str = 'student',
        start: int | None = None,
        classification: float | None = None,
        boxes: float | None = None,
        centerness: float | None = None,
        connector: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        if source == learner:
            raise ConfigError(f'CrossKD.source={source!r}: must differ from learner')
        if connector is not None:
            require_dict('CrossKD.connector', connector, "dict(type='Connector')")
        self.source, self.learner = source, learner
        self._options = dict(start=start, classification=classification, boxes=boxes, centerness=centerness)
        self.start, self.weights = 0, dict[str, float]()  # once the heads are known
        self.connector_cfg = connector
        (self._scores,) = edges_between([(learner, source)], 'logits', 'CrossKD')
        self._boxes = Edge('boxes', self._scores.learner, Tap(source, 'boxes'))
        self._centerness: Edge | None = None
        self._branches: dict[str, Edge] = {}

    @property
    def weighted(self) -> bool:
        """Whether any weight is not 0 and the learner is trainable."""
        return any(self.weights.values()) and self.learner in self.trainable

    def edges(self) -> list[Edge]:
        """Class scores; once the heads are known the features of each branch that has a weight, too."""
        return [self._scores, *self._branches.values()]

    def taps(self) -> dict[str, set[Tap]]:
        """Those of the edges, and what the teacher predicts beside class scores."""
        wanted = super().taps()
        wanted[self.source] |= {edge.source for edge in (self._boxes, self._centerness) if edge is not None}
        return wanted

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Take what is published for the teacher's head, and make the connectors; see :meth:`Distiller.bind`.

        Raises:
            ConfigError: Also if the teacher is not frozen, a head has no such convolutions, or the teacher's does not
                take the student's features.
        """
        if self.source in trainable:
            raise ConfigError(
                f'CrossKD.source={self.source!r}: this role learns, but its head, through which the features of '
                f'{self.learner!r} go, has to stay as it is; write model.frozen=[{self.source!r}]'
            )
        self._heads = check_dense('CrossKD', [self._scores], facts)
        super().bind(facts, trainable)
        mine, self._cross = self._known(self.learner), self._known(self.source)
        self._choose(mine)
        base = 'feats' if self.start == 0 else f'bbox_head.{{}}_convs.{self.start - 1}'
        self._branches = {
            branch: Edge(branch, *(Tap(role, base.format(branch)) for role in (self.learner, self.source)))
            for branch, terms in (('cls', ['classification']), ('reg', ['boxes', 'centerness']))
            if any(self.weights[term] for term in terms)
        }
        connectors = {}
        levels = len(facts[self.learner].output.taps[self._scores.learner].levels)
        for branch, edge in self._branches.items():
            widths = [head.widths[self.start][branch == 'reg'] for head in (mine, self._cross)]
            for level in range(levels if self._connects(*widths) else 0):
                made = built_connector('CrossKD.connector', self.connector_cfg or {}, *widths)
                connectors[level_key(edge, level, levels)] = (self.learner, made.requires_grad_(self.weighted))
        return connectors

    def connector(self, edge: Edge, in_channels: int, out_channels: int) -> None:
        """None: class scores are compared as they are."""

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<learner>.loss_crosskd_<term>`` for each term with a weight; see :class:`Distiller`."""
        targets, weights = targets_for('CrossKD', outputs[self.learner], self.learner)
        scores = taught_at(self._scores, outputs)
        count = targets.positives if targets.centerness is None else mean_over_ranks(targets.centerness).clamp(min=1.0)
        terms: dict[str, Tensor] = {}
        if 'cls' in self._branches:
            crossed = self._cross.scores(self.start, self._features('cls', outputs, step))
            levels = zip(crossed, scores, weights, strict=True)
            terms['classification'] = sum_of([focal_binary_divergence(x, t, w, normalizer=count) for x, t, w in levels])
        if 'reg' in self._branches:
            boxes, *centerness = self._cross.boxes(self.start, self._features('reg', outputs, step))
            if self.weights['boxes']:
                sure = [t.float().sigmoid().amax(dim=1) * (w > 0) for t, w in zip(scores, weights, strict=True)]
                terms['boxes'] = self._boxes_differ(boxes, taught_at(self._boxes, outputs), sure, count)
            if self._centerness is not None:
                found = positives_at(targets, scores, weights)
                levels = zip(centerness[0], taught_at(self._centerness, outputs), found, strict=True)
                terms['centerness'] = sum_of([_centerness_differs(x, t, p) for x, t, p in levels]) / count
        return DistillerOutput(
            {f'{self.learner}.loss_crosskd_{name}': self.weights[name] * term for name, term in terms.items()}
        )

    def _features(self, branch: str, outputs: Outputs, step: Step) -> list[Tensor]:
        """What enters the teacher's head at each level: the student's features with the teacher's statistics.

        The teacher is frozen, so its features have no gradient to cut off.
        """
        edge, found = self._branches[branch], []
        mine, theirs = (self._positioned(tap, outputs) for tap in (edge.learner, edge.source))
        for level, (own, other) in enumerate(zip(mine, theirs, strict=True)):
            key = level_key(edge, level, len(mine))
            values = step.connectors[key](own.values) if key in step.connectors else own.values
            taught, mask = moved_onto(other, own), own.image_mask()
            aligned = align_statistics(values, taught, mask)
            if mask is not None:  # beyond the image the teacher sees its own: a channel may be constant in it alone
                aligned = torch.where(mask.unsqueeze(1), aligned, taught)
            found.append(aligned.relu() if self.start else aligned)
        return found

    def _positioned(self, tap: Tap, outputs: Outputs) -> list[Grid]:
        """Features lie where the class scores of their role do."""
        output = outputs[tap.role]
        scores = grids_of(output, Tap(tap.role, 'logits'))
        return [replace(grid, values=x) for grid, x in zip(scores, output.taps[tap].levels, strict=True)]

    def _boxes_differ(
        self, own: Sequence[Tensor], taught: Sequence[Tensor], sure: Sequence[Tensor], count: Tensor
    ) -> Tensor:
        """How far boxes are from the teacher's, each as sure as the teacher is of it."""
        if self._cross.family == 'GFLHead':
            total = 4 * mean_over_ranks(sum_of([weight.sum() for weight in sure])).clamp(min=EPS)
            levels = zip(own, taught, [weight.repeat_interleave(4, dim=0) for weight in sure], strict=True)
            return sum_of([distribution_divergence(x, t, w, 1.0, 'sum', total) for x, t, w in levels])
        kind: BoxKind = 'log_iou' if self._cross.family == 'FCOSHead' else 'giou'
        boxes = zip(*map(self._heads[self.source].decode, (own, taught)), sure, strict=True)
        return sum_of([box_distance(rows_of(x), rows_of(t), w.flatten(), kind, count) for x, t, w in boxes])

    def _known(self, role: str) -> CrossHead:
        found = self._heads[role].cross
        if found is None:
            raise ConfigError(
                f'CrossKD: the head of role {role!r} has layers of its own; features can go over between those of '
                'RetinaNet, FCOS, ATSS and GFL. What fits others is BCKD'
            )
        return found

    def _choose(self, mine: CrossHead) -> None:
        """Fill in what is published, and check that both heads have it."""
        family, published = self._cross.family, PUBLISHED[self._cross.family]
        chosen = {key: published[key] if value is None else value for key, value in self._options.items()}
        self.start = int(chosen.pop('start'))
        for role, head in ((self.learner, mine), (self.source, self._cross)):
            if self.start >= len(head.widths):
                whence = f', as published for {family}' if self._options['start'] is None else ''
                raise ConfigError(
                    f'CrossKD.start={self.start}{whence}: each branch of the head of role {role!r} has only '
                    f'{len(head.widths) - 1} convolutions; give at most that number'
                )
        self.weights = chosen
        if chosen['centerness'] and self._cross.centerness is None:
            raise ConfigError(
                f'CrossKD.centerness={chosen["centerness"]!r}: only that of ATSS is compared, and role '
                f'{self.source!r} has {family}; leave the key out'
            )
        if chosen['centerness']:
            assert self._cross.centerness is not None
            self._centerness = Edge('centerness', self._scores.learner, Tap(self.source, self._cross.centerness))

    def _connects(self, mine: int, theirs: int) -> bool:
        """Whether a branch has connectors; ConfigError if it needs one and the config has none."""
        if self.connector_cfg is None and mine != theirs:
            raise ConfigError(
                f'CrossKD: the head of {self.source!r} takes {theirs} channels behind convolution {self.start}, the '
                f"student's features of role {self.learner!r} have {mine}; a 1x1 convolution fits them: "
                "CrossKD.connector=dict(type='Connector')"
            )
        return self.connector_cfg is not None


def _centerness_differs(own: Tensor, taught: Tensor, positive: Tensor) -> Tensor:
    """Binary cross-entropy of centerness (N, A, h, w), summed over positives (N * A, h, w)."""
    weight = positive.reshape(own.shape).float()
    return F.binary_cross_entropy_with_logits(own.float(), taught.float().sigmoid(), weight, reduction='sum')
