"""What every distiller shares: schedule, taps, connectors, and the divergence of class scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.distillers.grids import Grid, grids_of
from mmadm.distillers.pairs import Edge, Outputs, Pair, level_key, levels_of
from mmadm.distillers.schedule import WeightSchedule
from mmadm.losses.kl import ClassDivergence
from mmadm.modules import Connector
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, Kind, RoleFacts, Step, Tap
from mmadm.utils.errors import ConfigError

Facts = Mapping[str, RoleFacts]


class Distiller(nn.Module, ABC):
    """Turns the taps of roles into losses. Each loss has one learner; every other tensor in it is detached.

    Args:
        schedule: ``dict(warmup=, length=, stop=)``, see :class:`~mmadm.distillers.schedule.WeightSchedule`.
    """

    def __init__(self, schedule: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.schedule = WeightSchedule.from_cfg(schedule)
        self.trainable: frozenset[str] = frozenset()

    @abstractmethod
    def edges(self) -> list[Edge]:
        """Every (learner, source, tap) that this distiller looks at."""

    @abstractmethod
    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Compute the losses, unscheduled.

        Args:
            outputs: What the roles produced for this batch.
            step: Where the training stands, and this distiller's connectors.

        Returns:
            Losses, monitors and pauses by ``<role>.<name>``.
        """

    @property
    def weighted(self) -> bool:
        """Whether any weight is not 0; a distiller without weight is never computed (law 4)."""
        return True

    @property
    def may_pause(self) -> frozenset[str]:
        """Roles that this distiller may stop for an iteration, see :class:`~mmadm.structures.DistillerOutput`."""
        return frozenset()

    def moves(self, edge: Edge) -> bool:
        """Whether a loss of this distiller reaches the edge's learner, and so its connector."""
        return self.weighted and edge.learner.role in self.trainable

    def active(self, step: Step) -> bool:
        """Whether this distiller does anything at a step."""
        return self.weighted and not self.schedule.over(step.iteration, step.epoch)

    def taps(self) -> dict[str, set[Tap]]:
        """Taps that are needed, by role."""
        wanted: dict[str, set[Tap]] = {}
        for edge in self.edges():
            for tap in (edge.learner, edge.source):
                wanted.setdefault(tap.role, set()).add(tap)
        return wanted

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Check the taps on a dry run and infer the connectors.

        Args:
            facts: What the dry run found out about every role.
            trainable: Names of the roles that learn.

        Returns:
            By connector key: the learner's name and the new module, for every tap whose channels differ. One that no
            loss reaches is frozen: DDP would wait for its gradient for ever.

        Raises:
            ConfigError: If numbers of levels, classes or priors differ between the roles, or kinds do.
        """
        self.trainable = frozenset(trainable)
        outputs = {role: found.output for role, found in facts.items()}
        connectors: dict[str, tuple[str, nn.Module]] = {}
        for edge in self.edges():
            mine, theirs, kind = levels_of(edge, outputs)
            self._check_levels(edge, mine, theirs, kind)
            self._check_kinds(edge, outputs)
            for level, (a, b) in enumerate(zip(mine, theirs, strict=True)):
                connector = self.connector(edge, a.values.shape[1], b.values.shape[1])
                if connector is not None:
                    connector.requires_grad_(self.moves(edge))
                    connectors[level_key(edge, level, len(mine))] = (edge.learner.role, connector)
        return connectors

    def connector(self, edge: Edge, in_channels: int, out_channels: int) -> nn.Module | None:
        """Make what turns a learner's level into something comparable: a 1x1 convolution where channels differ."""
        return None if in_channels == out_channels else Connector(in_channels, out_channels)

    @torch.no_grad()
    def avatar_variances(self, outputs: Outputs) -> dict[str, Tensor]:
        """How much the avatars of a distiller that has some differ at each position, for a picture.

        Args:
            outputs: Taps of the roles on one image.

        Returns:
            Maps (1, h, w) without padding, by tap and level; taps that give no maps are left out.
        """
        found: dict[str, Tensor] = {}
        avatars: Any = self.avatars
        for edge in self.edges():
            source = outputs[edge.source.role]
            grids = grids_of(source, edge.source) if edge.source in source.taps else []
            for level, grid in enumerate(grid for grid in grids if grid.stride is not None):
                variance = avatars.variance(grid.values, grid.image_mask()).mean(dim=0, keepdim=True)
                rows, columns = grid.image_cells(0)
                found[level_key(edge, level, len(grids))] = variance[:, :rows, :columns]
        return found

    def _check_kinds(self, edge: Edge, outputs: Outputs) -> None:
        kinds = [outputs[tap.role].taps[tap].kind for tap in (edge.learner, edge.source)]
        if kinds[0] is not kinds[1] and any(kind.scores_classes or kind is Kind.BOX_DISTRIBUTIONS for kind in kinds):
            raise ConfigError(
                f'{type(self).__name__}: tap {str(edge.learner)!r} of {edge.learner.role!r} gives {kinds[0].value}, '
                f'{str(edge.source)!r} of {edge.source.role!r} {kinds[1].value}'
                '; these cannot be compared, only features can'
            )

    def _check_levels(self, edge: Edge, mine: list[Grid], theirs: list[Grid], kind: Kind) -> None:
        name, (learner, source) = type(self).__name__, (edge.learner, edge.source)
        if len(mine) != len(theirs):
            kept = f'[:{min(len(mine), len(theirs))}]'
            raise ConfigError(
                f'{name}: tap {str(learner)!r} of {learner.role!r} gives {len(mine)} levels, {str(source)!r} of '
                f'{source.role!r} gives {len(theirs)}; say which belong together, such as at=dict('
                f"{learner.role}='{learner.base}{kept}', {source.role}='{source.base}{kept}')"
            )
        for a, b in ((a.values, b.values) for a, b in zip(mine, theirs, strict=True)):
            if kind.scores_classes and a.shape[1] != b.shape[1]:
                raise ConfigError(
                    f'{name}: role {learner.role!r} predicts {a.shape[1]} classes and {source.role!r} {b.shape[1]}; '
                    'logits can only be compared between equal class sets'
                )
            positions = a.shape[2:] == b.shape[2:] or a.dim() == 4
            if a.dim() != b.dim() or a.shape[0] != b.shape[0] or not positions:
                raise ConfigError(
                    f'{name}: on a test image tap {str(learner)!r} of {learner.role!r} has shape '
                    f'{tuple(a.shape)}, {str(source)!r} of {source.role!r} has {tuple(b.shape)}: they do not '
                    'correspond; tap other modules, such as `feats`'
                )


def built_connector(key: str, cfg: Mapping[str, Any], in_channels: int, out_channels: int) -> nn.Module:
    """Build the registered connector of a config between these channels; ConfigError names the key if it cannot be."""
    try:
        return MODELS.build({'_scope_': 'mmadm', **cfg, 'in_channels': in_channels, 'out_channels': out_channels})
    except (KeyError, TypeError) as error:
        raise ConfigError(f'{key}={dict(cfg)}: {error}') from error


def mean_of(terms: Sequence[Tensor]) -> Tensor:
    """The mean of scalars; a single one as it is: an operation on it costs as much as a small network's loss."""
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).mean()


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    """The sum of scalars."""
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).sum()


def class_divergence(pairs: Sequence[Pair], divergence: ClassDivergence) -> Tensor:
    """How a learner's class scores differ from a source's, which are detached; the mean over levels.

    Args:
        pairs: Logits of each level.
        divergence: Compares those of one level.
    """
    return mean_of([divergence(learner, source.detach(), context) for learner, source, context in pairs])
