"""What every distiller shares: role names, taps, schedule, connectors."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadm.functional import binary_kl_divergence, kl_divergence
from mmadm.modules import Connector, resize_like
from mmadm.structures import RoleOutput
from mmadm.utils.errors import ConfigError
from mmadm.utils.schedule import WeightSchedule

Outputs = Mapping[str, RoleOutput]
TapSpec = str | Mapping[str, str]


@dataclass(frozen=True)
class Edge:
    """A learner that looks at a source, at one tap each.

    Attributes:
        key: Name of this edge's connectors in the checkpoint.
        learner: Role that learns.
        source: Role that is looked at.
        learner_tap: Tap name in the learner.
        source_tap: Tap name in the source.
    """

    key: str
    learner: str
    source: str
    learner_tap: str
    source_tap: str


def names(value: str | Sequence[str], key: str) -> list[str]:
    """Turn a role name or a list of them into a list; ConfigError if it is empty or repeats a name."""
    listed = [value] if isinstance(value, str) else list(value)
    if not listed or len(set(listed)) != len(listed):
        raise ConfigError(f'{key}={value!r}: give one role name, or several different ones')
    return listed


def edges_between(pairs: Sequence[tuple[str, str]], at: TapSpec | Sequence[TapSpec], key: str) -> list[Edge]:
    """List every (learner, source) pair at every tap.

    Args:
        pairs: (learner, source) role names.
        at: A tap name, a dict from role to tap name where they differ, or a list of these.
        key: Config key to name in an error.

    Raises:
        ConfigError: If a dict lacks a role.
    """
    edges = []
    for spec in [at] if isinstance(at, str | Mapping) else list(at):
        for learner, source in pairs:
            if isinstance(spec, str):
                learner_tap = source_tap = spec
            else:
                lacking = {learner, source} - set(spec)
                if lacking:
                    raise ConfigError(f'{key}.at={dict(spec)}: no tap for role {sorted(lacking)[0]!r}')
                learner_tap, source_tap = spec[learner], spec[source]
            name = _identifier(learner_tap)
            edge_key = name if len(pairs) == 1 else f'{name}_{learner}_{source}'
            if edge_key in {edge.key for edge in edges}:  # one tap beside two of the source
                edge_key = f'{edge_key}_{_identifier(source_tap)}'
            edges.append(Edge(edge_key, learner, source, learner_tap, source_tap))
    return edges


def _identifier(tap: str) -> str:
    return re.sub(r'\W+', '_', tap).strip('_')


class Distiller(nn.Module, ABC):
    """Turns the taps of roles into losses. Each loss has one learner; every other tensor in it is detached.

    Args:
        schedule: ``dict(warmup=, length=, stop=)``, see :class:`~mmadm.utils.schedule.WeightSchedule`.
    """

    def __init__(self, schedule: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.schedule = WeightSchedule.from_cfg(schedule)
        self.trainable: frozenset[str] = frozenset()

    @abstractmethod
    def edges(self) -> list[Edge]:
        """Every (learner, source, tap) that this distiller looks at."""

    @abstractmethod
    def forward(self, outputs: Outputs, connectors: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Compute the losses, unscheduled.

        Args:
            outputs: What the roles produced for this batch.
            connectors: This distiller's connectors by key.

        Returns:
            Losses and monitors by ``<learner>.<name>``; what trains has ``loss`` in its name.
        """

    @property
    def weighted(self) -> bool:
        """Whether any weight is not 0; a distiller without weight is never computed (law 4)."""
        return True

    @property
    def may_pause(self) -> frozenset[str]:
        """Roles that this distiller may stop for an iteration, by the monitor ``<role>.expert``."""
        return frozenset()

    def moves(self, edge: Edge) -> bool:
        """Whether a loss of this distiller reaches the edge's learner, and so its connector."""
        return self.weighted and edge.learner in self.trainable

    def active(self, iteration: int) -> bool:
        """Whether this distiller does anything at an iteration (from 0)."""
        stop = self.schedule.stop
        return self.weighted and (stop is None or iteration < stop)

    def taps(self) -> dict[str, set[str]]:
        """Tap names that are needed, by role."""
        wanted: dict[str, set[str]] = {}
        for edge in self.edges():
            wanted.setdefault(edge.learner, set()).add(edge.learner_tap)
            wanted.setdefault(edge.source, set()).add(edge.source_tap)
        return wanted

    def bind(self, probe: Outputs, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Check the taps on a dry run and infer the connectors.

        Args:
            probe: Taps of every role on a small image.
            trainable: Names of the roles that learn.

        Returns:
            By connector key: the learner's name and the new module, for every tap whose channels differ. One that no
            loss reaches is frozen: DDP would wait for its gradient for ever.

        Raises:
            ConfigError: If numbers of levels, classes or priors differ between the roles, or logits are of two kinds.
        """
        self.trainable = frozenset(trainable)
        found: dict[str, tuple[str, nn.Module]] = {}
        for edge in self.edges():
            mine, theirs = levels_of(edge, probe)
            self._check_levels(edge, mine, theirs, probe)
            for level, (a, b) in enumerate(zip(mine, theirs, strict=True)):
                connector = self.connector(edge, a.shape[1], b.shape[1])
                if connector is not None:
                    connector.requires_grad_(self.moves(edge))
                    found[level_key(edge, level, len(mine))] = (edge.learner, connector)
        return found

    def connector(self, edge: Edge, in_channels: int, out_channels: int) -> nn.Module | None:
        """Make what turns a learner's level into something comparable: a 1x1 convolution where channels differ."""
        return None if in_channels == out_channels else Connector(in_channels, out_channels)

    def _check_levels(self, edge: Edge, mine: list[Tensor], theirs: list[Tensor], probe: Outputs) -> None:
        kind = type(self).__name__
        if len(mine) != len(theirs):
            first = f'[:{min(len(mine), len(theirs))}]'
            learner_tap, source_tap = (tap.partition('[')[0] + first for tap in (edge.learner_tap, edge.source_tap))
            raise ConfigError(
                f'{kind}: tap {edge.learner_tap!r} of {edge.learner!r} gives {len(mine)} levels, {edge.source_tap!r} '
                f'of {edge.source!r} gives {len(theirs)}; say which belong together, such as at=dict('
                f"{edge.learner}='{learner_tap}', {edge.source}='{source_tap}')"
            )
        for a, b in zip(mine, theirs, strict=True):
            if is_logits(edge) and a.shape[1] != b.shape[1]:
                raise ConfigError(
                    f'{kind}: role {edge.learner!r} predicts {a.shape[1]} classes and {edge.source!r} {b.shape[1]}; '
                    'logits can only be compared between equal class sets'
                )
            if a.dim() != b.dim() or a.shape[0] != b.shape[0] or (a.dim() != 4 and a.shape != b.shape):
                raise ConfigError(
                    f'{kind}: on a test image tap {edge.learner_tap!r} of {edge.learner!r} has shape '
                    f'{tuple(a.shape)}, {edge.source_tap!r} of {edge.source!r} has {tuple(b.shape)}: they do not '
                    'correspond; tap other modules, such as `feats`'
                )
        if is_logits(edge) and probe[edge.learner].binary != probe[edge.source].binary:
            raise ConfigError(
                f'{kind}: of {edge.learner!r} and {edge.source!r} one scores classes by a sigmoid each, the other by '
                'one softmax; such logits cannot be compared, tap `feats`'
            )


def is_logits(edge: Edge) -> bool:
    """Whether an edge compares class scores."""
    return 'logits' in (edge.learner_tap.partition('[')[0], edge.source_tap.partition('[')[0])


def levels_of(edge: Edge, outputs: Outputs) -> tuple[list[Tensor], list[Tensor]]:
    """Tensors of the learner and of the source; a two-stage source scores the learner's regions.

    Raises:
        ConfigError: If the source needs regions and the learner has none.
    """
    learner, source = outputs[edge.learner], outputs[edge.source]
    tap = edge.source_tap.partition('[')[0]
    if source.on_rois is None or tap not in ('logits', 'boxes'):
        return learner.taps[edge.learner_tap], source.taps[edge.source_tap]
    if learner.rois is None:
        raise ConfigError(
            f'role {edge.source!r} is a two-stage detector, whose {tap} belong to regions that the learner samples, '
            f'but {edge.learner!r} samples none; tap `feats`'
        )
    return learner.taps[edge.learner_tap], [source.on_rois(learner.rois, tap)]


def level_key(edge: Edge, level: int, levels: int) -> str:
    """Name of one level of an edge: the edge's own, numbered where its tap has several."""
    return edge.key if levels == 1 else f'{edge.key}_{level}'


def matched(edge: Edge, outputs: Outputs, connectors: Mapping[str, nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """Pair the learner's and the source's tensors of an edge, channels and sizes made equal. Nothing is detached."""
    mine, theirs = levels_of(edge, outputs)
    pairs = []
    for level, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        key = level_key(edge, level, len(mine))
        pairs.append((resize_like(connectors[key](a) if key in connectors else a, b), b))
    return pairs


def valid_positions(output: RoleOutput, reference: Tensor) -> Tensor | None:
    """Where a position counts, resized (nearest) to a map (N * A, K, h, w): bool (N * A, h, w); None if all do."""
    if output.valid is None or reference.dim() != 4:
        return None
    # bytes: the map has the size of the image, and as floats takes four times as long
    valid = F.interpolate(output.valid.byte().unsqueeze(1), size=reference.shape[2:], mode='nearest').squeeze(1).bool()
    return for_each_prior(valid, reference)


def for_each_prior(values: Tensor, reference: Tensor) -> Tensor:
    """Repeat maps (N, ...) to the batch of a reference (N * A, ...): a position's priors follow each other there."""
    priors = reference.shape[0] // values.shape[0]
    return values if priors == 1 else values.repeat_interleave(priors, dim=0)


def mean_of(terms: Sequence[Tensor]) -> Tensor:
    """The mean of scalars; a single one as it is: an operation on it costs as much as a small network's loss."""
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).mean()


def class_divergence(output: RoleOutput, pairs: Sequence[tuple[Tensor, Tensor]], tau: float) -> Tensor:
    """``tau^2 KL(sg(source) || learner)`` of class scores, the mean over valid positions and levels.

    Args:
        output: What the learner produced; says which positions count and whether each class has a sigmoid.
        pairs: The learner's and the source's logits of each level.
        tau: Temperature.
    """
    divergence = binary_kl_divergence if output.binary else kl_divergence
    terms = [divergence(a, b.detach(), tau, valid_positions(output, b)) for a, b in pairs]
    return mean_of(terms)
