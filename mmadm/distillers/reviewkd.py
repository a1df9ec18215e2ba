"""Knowledge Review (Chen et al., CVPR 2021, arXiv 2104.09044; methods_more.md, section 6)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from mmadm.distillers.base import Distiller, Facts, sum_of
from mmadm.distillers.grids import Grid, moved_onto
from mmadm.distillers.pairs import Edge, Outputs, TapSpec, edges_between, levels_of
from mmadm.functional import hierarchical_distance
from mmadm.modules import ReviewFusion
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, Kind, Step
from mmadm.utils.errors import ConfigError

FUSION = 'fusion'


@MODELS.register_module()
class ReviewKD(Distiller):
    """Each of a teacher's levels teaches the student's level and all deeper ones, which are fused from deep to shallow.

    A :class:`~mmadm.modules.ReviewFusion` makes maps of the teacher's channels from all of the student's levels; each
    is compared with the teacher's level by the squared distance of the map and of its pools (paper, section 3.3), and
    the terms are summed over levels. Weight 1 is published for RetinaNet and Faster R-CNN with ResNet-50, 1.2 for
    ResNet-18 and 2 for MobileNetV2.

    Args:
        source: Role that is looked at.
        learner: Role that learns.
        at: Tap name, or dict from role to tap name, or a list of these: together they give the levels in their order,
            from the finest to the coarsest.
        mid_channels: Channels in which levels are fused.
        weight: Factor on the loss.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If source and learner are the same role, or there are no channels to fuse in.
    """

    def __init__(
        self,
        source: str = 'teacher',
        learner: str = 'student',
        at: TapSpec | Sequence[TapSpec] = 'feats',
        mid_channels: int = 256,
        weight: float = 1.0,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        if source == learner:
            raise ConfigError(f'ReviewKD.source={source!r}: must differ from learner')
        if mid_channels < 1:
            raise ConfigError(f'ReviewKD.mid_channels={mid_channels!r}: must be at least 1')
        self.learner = learner
        self.mid_channels = mid_channels
        self.weight = weight
        self._edges = edges_between([(learner, source)], at, 'ReviewKD')

    @property
    def weighted(self) -> bool:
        """Whether the weight is not 0 and the learner is trainable."""
        return self.weight != 0 and self.learner in self.trainable

    def edges(self) -> list[Edge]:
        """One edge for each tap."""
        return self._edges

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Check the levels, see :meth:`Distiller.bind`, and make the fusion.

        Raises:
            ConfigError: Also if a tap gives no feature maps, or a level is finer than the one before it.
        """
        super().bind(facts, trainable)
        outputs = {role: known.output for role, known in facts.items()}
        for edge in self._edges:
            found = outputs[self.learner].taps[edge.learner].kind
            if found is not Kind.MAP:
                raise ConfigError(
                    f'ReviewKD.at: tap {str(edge.learner)!r} of {self.learner!r} gives {found.value}, no feature maps '
                    '(N, C, h, w); tap `feats`'
                )
        mine, theirs = self._levels(outputs)
        sides = [grid.cells for grid in mine]
        if any(fine < coarse for a, b in pairwise(sides) for fine, coarse in zip(a, b, strict=True)):
            raise ConfigError(
                f'ReviewKD.at={[str(edge.learner) for edge in self._edges]}: on a test image the levels of '
                f'{self.learner!r} have sizes {sides}; name them from the finest to the coarsest'
            )
        own, wanted = ([grid.values.shape[1] for grid in grids] for grids in (mine, theirs))
        return {FUSION: (self.learner, ReviewFusion(own, wanted, self.mid_channels).requires_grad_(self.weighted))}

    def connector(self, edge: Edge, in_channels: int, out_channels: int) -> None:
        """None: the fusion takes all levels at once."""

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<learner>.loss_reviewkd``; see :class:`Distiller`."""
        mine, theirs = self._levels(outputs)
        fused = step.connectors[FUSION]([grid.values for grid in mine], [grid.image_sizes() for grid in mine])
        terms = [
            hierarchical_distance(moved_onto(own, other, values), other.values.detach(), other.image_mask())
            for own, other, values in zip(mine, theirs, fused, strict=True)
        ]
        return DistillerOutput({f'{self.learner}.loss_reviewkd': self.weight * sum_of(terms)})

    def _levels(self, outputs: Outputs) -> tuple[list[Grid], list[Grid]]:
        """All levels of the learner and of the source, in the order of the taps."""
        found = [levels_of(edge, outputs)[:2] for edge in self._edges]
        return [grid for mine, _ in found for grid in mine], [grid for _, theirs in found for grid in theirs]
