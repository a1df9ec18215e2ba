"""Edges between taps of roles, and what a learner and its source show at the same positions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from mmadm.distillers.class_targets import class_targets, valid_mask
from mmadm.distillers.grids import Grid, grids_of, moved_onto
from mmadm.structures import Kind, PairContext, RoleOutput, Tap
from mmadm.utils.errors import ConfigError, near_matches

Outputs = Mapping[str, RoleOutput]
TapSpec = str | Mapping[str, str]


@dataclass(frozen=True)
class Edge:
    """A learner that looks at a source, at one tap each.

    Attributes:
        key: Name of this edge's connectors in the checkpoint.
        learner: Where it learns.
        source: Where it looks.
    """

    key: str
    learner: Tap
    source: Tap


class Pair(NamedTuple):
    """One level of an edge, at the positions of the source. Nothing is detached.

    Attributes:
        learner: The learner's tensor behind its connector.
        source: The source's tensor.
        context: What a loss may know of them.
    """

    learner: Tensor
    source: Tensor
    context: PairContext


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
        ConfigError: If a dict lacks a role or names another, or levels are not chosen by an index or a range.
    """
    edges: list[Edge] = []
    roles = sorted({str(role) for pair in pairs for role in pair})  # what is no name is refused later
    for spec in [at] if isinstance(at, str | Mapping) else list(at):
        if isinstance(spec, Mapping) and (unknown := [role for role in spec if str(role) not in roles]):
            raise ConfigError(
                f'{key}.at={dict(spec)}: no role {unknown[0]!r} is compared; {near_matches(str(unknown[0]), roles)}'
            )
        for learner, source in pairs:
            by_role: Mapping[str, str] = {learner: spec, source: spec} if isinstance(spec, str) else spec
            lacking = {learner, source} - set(by_role)
            if lacking:
                raise ConfigError(
                    f'{key}.at={dict(by_role)}: no tap for role {sorted(lacking)[0]!r}, but for {sorted(by_role)}'
                )
            name = _identifier(by_role[learner])
            edge_key = name if len(pairs) == 1 else f'{name}_{learner}_{source}'
            if edge_key in {edge.key for edge in edges}:  # one tap beside two of the source
                edge_key = f'{edge_key}_{_identifier(by_role[source])}'
            taps = Tap.parse(learner, by_role[learner]), Tap.parse(source, by_role[source])
            edges.append(Edge(edge_key, *taps))
    return edges


def level_key(edge: Edge, level: int, levels: int) -> str:
    """Name of one level of an edge: the edge's own, numbered where its tap has several."""
    return edge.key if levels == 1 else f'{edge.key}_{level}'


def levels_of(edge: Edge, outputs: Outputs) -> tuple[list[Grid], list[Grid], Kind]:
    """Levels of the learner and of the source, and what they are; a two-stage source scores the learner's regions.

    Raises:
        ConfigError: If the source needs regions and the learner has none.
    """
    learner, source = outputs[edge.learner.role], outputs[edge.source.role]
    mine = grids_of(learner, edge.learner)
    kind, scored = learner.taps[edge.learner].kind, source.regional.get((edge.learner.role, edge.source))
    if scored is not None:
        return mine, [Grid(level, None, source.area) for level in scored.levels], kind
    regional = source.levels is not None and edge.source.base in ('logits', 'boxes', 'masks')
    if regional and learner.regions_of(edge.source.base) is None:
        raise ConfigError(
            f'role {edge.source.role!r} is a two-stage detector, whose {edge.source.base} belong to regions that the '
            f'learner samples, but {edge.learner.role!r} samples none; tap `feats`'
        )
    return mine, grids_of(source, edge.source), kind


def paired(edge: Edge, outputs: Outputs, connectors: Mapping[str, nn.Module]) -> list[Pair]:
    """Pair the learner's and the source's tensors of an edge, channels and positions made equal, level by level."""
    mine, theirs, kind = levels_of(edge, outputs)
    learner, pairs = outputs[edge.learner.role], []
    for level, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        key = level_key(edge, level, len(mine))
        moved = moved_onto(a, b, connectors[key](a.values) if key in connectors else None)
        pairs.append(Pair(moved, b.values, context_of(learner, b, kind, level, len(mine))))
    return pairs


def context_of(learner: RoleOutput, grid: Grid, kind: Kind, level: int, levels: int) -> PairContext:
    """What a loss may know of a level of a tap.

    Args:
        learner: The role whose ground truth counts.
        grid: The positions, of this role or of another one.
        kind: What is compared there.
        level: Index of the level.
        levels: How many the tap has.
    """

    def positives() -> Tensor | None:
        """Counted only for a loss that asks: dozens of small kernels and, over ranks, a message."""
        targets = learner.targets() if kind is Kind.SIGMOID_SCORES else None
        return None if targets is None else targets.positives / levels

    labels = partial(class_targets, learner, grid, kind)
    return PairContext(kind, level, valid_mask(learner, grid, kind), labels, positives)


def _identifier(tap: str) -> str:
    return re.sub(r'\W+', '_', tap).strip('_')
