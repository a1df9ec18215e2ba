"""Any method with one edge: a learner, a source, a tap and a loss (KD and its kin; methods.md, section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Edge, Outputs, TapSpec, edges_between, matched, valid_positions
from mmadm.registry import MODELS
from mmadm.utils.errors import ConfigError


@MODELS.register_module()
class Transfer(Distiller):
    """``weight * loss(learner, sg(source))``, the mean over taps and levels.

    Args:
        source: Role that is looked at.
        learner: Role that learns.
        loss: Config of a registered loss, such as ``dict(type='KLDivergence', tau=4)``.
        at: Tap name, dict from role to tap name, or a list of these.
        weight: Factor on the loss.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If source and learner are the same role.
    """

    def __init__(
        self,
        source: str,
        learner: str,
        loss: dict[str, Any],
        at: TapSpec | Sequence[TapSpec] = 'logits',
        weight: float = 1.0,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        if source == learner:
            raise ConfigError(f'Transfer.source={source!r}: must differ from learner')
        self.learner = learner
        self.loss = MODELS.build({'_scope_': 'mmadm', **loss})
        self.weight = weight
        self._edges = edges_between([(learner, source)], at, 'Transfer')

    @property
    def weighted(self) -> bool:
        """Whether the weight is not 0 and the learner is trainable."""
        return self.weight != 0 and self.learner in self.trainable

    def edges(self) -> list[Edge]:
        """One edge for each tap."""
        return self._edges

    def forward(self, outputs: Outputs, connectors: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Return ``<learner>.loss_transfer``; see :class:`Distiller`."""
        terms = []
        for edge in self._edges:
            for learner, source in matched(edge, outputs, connectors):
                # positions without a label are left out of what is compared per class, not of features
                options = (
                    {'mask': valid_positions(outputs[self.learner], source)} if edge.learner_tap == 'logits' else {}
                )
                terms.append(self.loss(learner, source.detach(), **options))
        return {f'{self.learner}.loss_transfer': self.weight * torch.stack(terms).mean()}
