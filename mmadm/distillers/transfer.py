"""Any method with one edge: a learner, a source, a tap and a loss (KD and its kin; methods.md, sections 2 and 5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Facts, built_connector, mean_of
from mmadm.distillers.pairs import Edge, Outputs, TapSpec, edges_between, paired
from mmadm.losses import DistillationLoss
from mmadm.modules import AvatarEnsemble
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, PairContext, Step
from mmadm.utils.errors import ConfigError, require_dict, require_numbers


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
        self.loss = _build_loss(loss)
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

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Infer the connectors, see :meth:`Distiller.bind`, and compute the loss once on the dry run.

        Raises:
            ConfigError: Also if the loss makes no sense for what a tap gives, or cannot work with it.
        """
        found = super().bind(facts, trainable)
        name = type(self.loss).__name__
        for edge in self._edges:
            kind = facts[edge.learner.role].output.taps[edge.learner].kind
            if isinstance(self.loss, DistillationLoss):
                try:
                    self.loss.check_kind(kind)
                except ConfigError as error:
                    raise ConfigError(f'Transfer.at={str(edge.learner)!r} of {edge.learner.role!r}: {error}') from error
        try:
            with torch.no_grad():
                outputs = {role: known.output for role, known in facts.items()}
                self(outputs, Step(connectors={key: module for key, (_, module) in found.items()}))
        except (RuntimeError, ValueError, IndexError) as error:
            raise ConfigError(f'Transfer: {name} cannot work at {str(self._edges[0].learner)!r}: {error}') from error
        return found

    def connector(self, edge: Edge, in_channels: int, out_channels: int) -> nn.Module | None:
        """Build the configured connector, the loss's own, or a 1x1 convolution where channels differ."""
        if self.connector_cfg is not None:
            return built_connector('Transfer.connector', self.connector_cfg, in_channels, out_channels)
        if hasattr(self.loss, 'connector'):
            own: Any = self.loss
            return own.connector(in_channels, out_channels)
        return super().connector(edge, in_channels, out_channels)

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<learner>.loss_transfer`` and with avatars ``<learner>.avatar_weight_min``."""
        terms, lightest = [], []
        for edge in self._edges:
            for learner, source, context in paired(edge, outputs, step.connectors):
                loss = partial(self._compare, context)
                if self.avatars is None:
                    terms.append(loss(learner, source.detach()))
                    continue
                both = getattr(self.loss, 'standardises_source', True)
                term, weights = self.avatars(loss, learner, source.detach(), both, context.mask)
                terms.append(term)
                lightest.append(weights.min())
        monitors = {f'{self.learner}.avatar_weight_min': torch.stack(lightest).min()} if lightest else {}
        return DistillerOutput({f'{self.learner}.loss_transfer': self.weight * mean_of(terms)}, monitors)

    def _compare(self, context: PairContext, learner: Tensor, source: Tensor) -> Tensor:
        """Our own losses know what they compare; a stock one takes weights of the elements."""
        if isinstance(self.loss, DistillationLoss):
            return self.loss(learner, source, context)
        if context.mask is None:
            return self.loss(learner, source)
        if not {'weight', 'avg_factor'} <= set(signature(self.loss.forward).parameters):
            kept = context.mask.unsqueeze(1).expand_as(learner)
            return self.loss(learner[kept], source[kept])
        weight = context.mask.unsqueeze(1).expand_as(learner).to(learner.dtype)
        return self.loss(learner, source, weight, avg_factor=weight.sum().clamp(min=1.0))


def _build_loss(cfg: Mapping[str, Any]) -> nn.Module:
    kind = cfg.get('type')
    if not isinstance(kind, str | type) or not kind:
        raise ConfigError(f"Transfer.loss.type={kind!r}: must name a registered loss, such as 'KLDivergence'")
    made = MODELS.get(kind) if isinstance(kind, str) else kind
    if made is not None and issubclass(made, DistillationLoss):
        require_numbers('Transfer.loss', made, cfg)
    try:
        return MODELS.build({'_scope_': 'mmadm', **cfg})
    except TypeError as error:
        raise ConfigError(f'Transfer.loss={dict(cfg)}: {error}') from error
