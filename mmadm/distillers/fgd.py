"""Focal and Global Distillation (Yang et al., CVPR 2022, arXiv 2111.11837; methods_more.md, section 1)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Facts, sum_of
from mmadm.distillers.pairs import Edge, Outputs, TapSpec, edges_between, level_key, levels_of, paired
from mmadm.functional import fgd_attention_distance, fgd_feature_distance, fgd_masks, generation_distance
from mmadm.modules import GlobalContext
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, Kind, Step
from mmadm.utils.errors import ConfigError

OWN, OTHER = 'context', 'source_context'


@MODELS.register_module()
class FGD(Distiller):
    """A detector imitates a teacher's features in and outside of objects, their attention and their global context.

    Foreground and background differ by the ground-truth boxes; each counts where the teacher's features are strong. The
    context of both sides is made by trainable blocks that belong to the learner and are never exported. Terms are
    summed over taps and levels. The weights are those published for single-stage detectors with anchors; FCOS has 1.6
    times as much and tau 0.8, two-stage detectors 5e-5, 2.5e-5, 5e-5 and 5e-7.

    Args:
        source: Role that is looked at.
        learner: Role that learns; a detector.
        at: Tap name, dict from role to tap name, or a list of these.
        tau: Temperature of the attention.
        foreground: Weight of the features inside boxes.
        background: Weight of the features outside.
        attention: Weight of the difference of both attentions.
        relation: Weight of the difference of both contexts.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If source and learner are the same role, or tau is not positive.
    """

    def __init__(
        self,
        source: str = 'teacher',
        learner: str = 'student',
        at: TapSpec | Sequence[TapSpec] = 'feats',
        tau: float = 0.5,
        foreground: float = 1e-3,
        background: float = 5e-4,
        attention: float = 5e-4,
        relation: float = 5e-6,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        if source == learner:
            raise ConfigError(f'FGD.source={source!r}: must differ from learner')
        if tau <= 0:
            raise ConfigError(f'FGD.tau={tau!r}: a temperature must be above 0')
        self.learner = learner
        self.tau = tau
        self.weights = dict(foreground=foreground, background=background, attention=attention, relation=relation)
        self._edges = edges_between([(learner, source)], at, 'FGD')

    @property
    def weighted(self) -> bool:
        """Whether any weight is not 0 and the learner is trainable."""
        return any(self.weights.values()) and self.learner in self.trainable

    def edges(self) -> list[Edge]:
        """One edge for each tap."""
        return self._edges

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Make a 1x1 convolution where channels differ, see :meth:`Distiller.bind`, and the context blocks.

        Raises:
            ConfigError: Also if the learner's data have no boxes, or a tap gives no feature maps.
        """
        if facts[self.learner].output.truth.boxes is None:
            raise ConfigError(
                f'FGD.learner={self.learner!r}: weighs features by ground-truth boxes, which this role has none of; '
                "what fits it is Transfer with loss=dict(type='ChannelWiseDivergence')"
            )
        for edge in self._edges:
            found = facts[edge.learner.role].output.taps[edge.learner].kind
            if found is not Kind.MAP:
                raise ConfigError(
                    f'FGD.at: tap {str(edge.learner)!r} of {self.learner!r} gives {found.value}, no feature maps '
                    '(N, C, h, w); tap `feats`'
                )
        connectors = super().bind(facts, trainable)
        outputs = {role: known.output for role, known in facts.items()}
        for edge in self._edges if self.weights['relation'] else ():
            theirs = levels_of(edge, outputs)[1]
            for level, grid in enumerate(theirs):
                for side in (OWN, OTHER):
                    block = GlobalContext(grid.values.shape[1]).requires_grad_(self.moves(edge))
                    connectors[f'{level_key(edge, level, len(theirs))}_{side}'] = (self.learner, block)
        return connectors

    def connector(self, edge: Edge, in_channels: int, out_channels: int) -> nn.Module | None:
        """A 1x1 convolution with bias, as published, where channels differ."""
        return None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<learner>.loss_fgd_<term>`` for each term with a weight; see :class:`Distiller`."""
        sums: dict[str, list[Tensor]] = {name: [] for name, weight in self.weights.items() if weight}
        learner = outputs[self.learner]
        boxes = learner.truth.boxes
        if boxes is None:
            raise ConfigError(f'FGD.learner={self.learner!r}: the data samples of this role have no boxes')
        for edge in self._edges:
            pairs, grids = paired(edge, outputs, step.connectors), levels_of(edge, outputs)[1]
            for level, (pair, grid) in enumerate(zip(pairs, grids, strict=True)):
                own, other, mask = pair.learner, pair.source.detach(), pair.context.mask
                # the boxes are pixels of the learner's input, all images one size with the padding
                masks = fgd_masks(boxes, grid.extent_in(learner.area), grid.cells, mask)
                features = fgd_feature_distance(own, other, *masks, self.tau, mask)
                terms = dict(zip(('foreground', 'background'), features, strict=True))
                if 'attention' in sums:
                    terms['attention'] = fgd_attention_distance(own, other, self.tau, mask)
                if 'relation' in sums:
                    key = level_key(edge, level, len(pairs))
                    blocks = [step.connectors[f'{key}_{side}'] for side in (OWN, OTHER)]
                    terms['relation'] = generation_distance(blocks[0](own, mask), blocks[1](other, mask), mask)
                for name, found in sums.items():
                    found.append(terms[name])
        return DistillerOutput(
            {f'{self.learner}.loss_fgd_{name}': self.weights[name] * sum_of(found) for name, found in sums.items()}
        )
