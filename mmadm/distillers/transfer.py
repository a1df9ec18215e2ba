"""Any method with one edge: a learner, a source, a tap and a loss (KD and its kin; methods.md, sections 2 and 5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.distillers.base import (
    Distiller,
    Edge,
    Outputs,
    TapSpec,
    edges_between,
    is_logits,
    matched,
    mean_of,
    valid_positions,
)
from mmadm.distillers.truth import targets_like
from mmadm.losses import ChannelWiseDivergence, DistillationLoss
from mmadm.modules import AvatarEnsemble
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext, RoleOutput
from mmadm.utils.errors import ConfigError, require_dict


@MODELS.register_module()
class Transfer(Distiller):
    """``weight * loss(learner, sg(source))``, the mean over taps and levels.

    Args:
        source: Role that is looked at.
        learner: Role that learns.
        loss: Config of a registered loss, such as ``dict(type='KLDivergence', tau=4)``.
        at: Tap name, dict from role to tap name, or a list of these.
        connector: Config of a registered module with ``in_channels`` and ``out_channels`` that turns each of the
            learner's levels into what is compared. By default the loss's own, or a 1x1 convolution where channels
            differ.
        avatars: Options of :class:`~mmadm.modules.AvatarEnsemble`: the source's map is replaced by perturbed copies.
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
        connector: dict[str, Any] | None = None,
        avatars: dict[str, Any] | None = None,
        weight: float = 1.0,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        if source == learner:
            raise ConfigError(f'Transfer.source={source!r}: must differ from learner')
        require_dict('Transfer.loss', loss, "dict(type='KLDivergence', tau=4)")
        self.learner = learner
        self.loss = MODELS.build({'_scope_': 'mmadm', **loss})
        self.connector_cfg = connector
        self.avatars = None if avatars is None else AvatarEnsemble.from_cfg(avatars)
        self.weight = weight
        self._edges = edges_between([(learner, source)], at, 'Transfer')

    @property
    def weighted(self) -> bool:
        """Whether the weight is not 0 and the learner is trainable."""
        return self.weight != 0 and self.learner in self.trainable

    def edges(self) -> list[Edge]:
        """One edge for each tap."""
        return self._edges

    def bind(self, probe: Outputs, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Infer the connectors, see :meth:`Distiller.bind`, and compute the loss once on the dry run.

        Raises:
            ConfigError: Also if the loss cannot work with this tap.
        """
        found = super().bind(probe, trainable)
        try:
            with torch.no_grad():
                self(probe, {key: module for key, (_, module) in found.items()})
        except (RuntimeError, ValueError, IndexError) as error:
            kind = type(self.loss).__name__
            raise ConfigError(f'Transfer: {kind} cannot work at {self._edges[0].learner_tap!r}: {error}') from error
        return found

    def connector(self, edge: Edge, in_channels: int, out_channels: int) -> nn.Module | None:
        """Build the configured connector, the loss's own, or a 1x1 convolution where channels differ."""
        if self.connector_cfg is not None:
            channels = dict(in_channels=in_channels, out_channels=out_channels)
            return MODELS.build({'_scope_': 'mmadm', **self.connector_cfg, **channels})
        if hasattr(self.loss, 'connector'):
            return self.loss.connector(in_channels, out_channels)
        return super().connector(edge, in_channels, out_channels)

    def forward(self, outputs: Outputs, connectors: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Return ``<learner>.loss_transfer`` and with avatars ``<learner>.avatar_weight_min``."""
        terms, lightest = [], []
        for edge in self._edges:
            for level, (learner, source) in enumerate(matched(edge, outputs, connectors)):
                context = self._context(edge, outputs[self.learner], source, level)
                loss = self.loss
                if isinstance(loss, DistillationLoss):  # those of the toolboxes know of no context
                    loss.check_kind(context.kind)
                    loss = partial(loss, context=context)
                if self.avatars is None:
                    terms.append(loss(learner, source.detach()))
                    continue
                # AKD's program normalises the student alone where the loss is a softmax over positions
                both = not isinstance(self.loss, ChannelWiseDivergence)
                term, weights = self.avatars(loss, learner, source.detach(), both, context.mask)
                terms.append(term)
                lightest.append(weights.min())
        found = {f'{self.learner}.loss_transfer': self.weight * mean_of(terms)}
        if lightest:
            found[f'{self.learner}.avatar_weight_min'] = torch.stack(lightest).min()
        return found

    def _context(self, edge: Edge, output: RoleOutput, source: Tensor, level: int) -> PairContext:
        """What the loss may know; classes and labels have a meaning for class scores alone."""
        if not is_logits(edge):
            return PairContext(Kind.MAP if source.dim() == 4 else Kind.VECTORS, level)
        kind = Kind.SIGMOID_SCORES if output.binary else Kind.SOFTMAX_SCORES
        return PairContext(kind, level, valid_positions(output, source), lambda: targets_like(output, source))
