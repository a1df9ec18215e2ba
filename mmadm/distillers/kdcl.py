"""Knowledge distillation via collaborative learning (Guo et al., CVPR 2020; methods.md, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import permutations
from typing import Any, Literal

from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Facts, class_divergence
from mmadm.distillers.class_targets import check_class_maps, class_targets
from mmadm.distillers.grids import grids_of, moved_onto
from mmadm.distillers.pairs import Edge, Outputs, Pair, TapSpec, context_of, edges_between, names
from mmadm.functional.kdcl import minimum_ensemble, naive_ensemble
from mmadm.losses.kl import ClassDivergence, Normaliser
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, Step
from mmadm.utils.errors import ConfigError

_ENSEMBLES: dict[str, Callable[[Sequence[Tensor], Tensor], Tensor]] = {
    'naive': naive_ensemble,
    'minlogit': minimum_ensemble,
}


@MODELS.register_module()
class KDCL(Distiller):
    """Every role r learns ``weight * tau^2 * KL(sg(p*) || p_r)`` from an ensemble of all roles.

    Per pixel for segmentation, per location for detectors with class maps, and per class where each has a sigmoid; the
    mean over levels.

    Args:
        roles: At least two role names.
        ensemble: ``naive`` (the role with the lowest cross-entropy) or ``minlogit``.
        at: Tap name, or dict from role to tap name.
        tau: Temperature; by default 2, and 1 where each class has a sigmoid.
        normaliser: See :class:`~mmadm.losses.kl.ClassDivergence`.
        weight: Factor on the loss of every role.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If there are fewer than two roles or the ensemble is unknown.
    """

    def __init__(
        self,
        roles: Sequence[str],
        ensemble: Literal['naive', 'minlogit'] = 'naive',
        at: TapSpec = 'logits',
        tau: float | None = None,
        weight: float = 1.0,
        normaliser: Normaliser = 'mean',
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        self.roles = names(roles, 'KDCL.roles')
        if len(self.roles) < 2:
            raise ConfigError(f'KDCL.roles={list(roles)}: needs at least two roles')
        if ensemble not in _ENSEMBLES:
            raise ConfigError(f'KDCL.ensemble={ensemble!r}: must be one of {tuple(_ENSEMBLES)}')
        self.combine = _ENSEMBLES[ensemble]
        self.divergence = ClassDivergence('KDCL', tau, normaliser, usual_tau=2.0)
        self.weight = weight
        self._edges = edges_between(list(permutations(self.roles, 2)), at, 'KDCL')
        self._taps = {edge.learner.role: edge.learner for edge in self._edges}

    @property
    def weighted(self) -> bool:
        """Whether the weight is not 0."""
        return self.weight != 0

    def edges(self) -> list[Edge]:
        """One edge for each ordered pair of roles."""
        return self._edges

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Check that classes and levels match, see :meth:`Distiller.bind`.

        Raises:
            ConfigError: Also if the logits are no class maps: an ensemble needs the truth at each position.
        """
        found = super().bind(facts, trainable)
        for role, tap in self._taps.items():
            check_class_maps('KDCL', tap, facts[role])
        return found

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<role>.loss_kdcl`` for every trainable role; see :class:`Distiller`."""
        losses = {}
        grids = {role: grids_of(outputs[role], tap) for role, tap in self._taps.items()}
        for learner in (role for role in self.roles if role in self.trainable):
            output, kind, pairs = outputs[learner], outputs[learner].taps[self._taps[learner]].kind, []
            for level, mine in enumerate(grids[learner]):
                # the ensemble is taken at the learner's own positions
                of_roles = [moved_onto(grids[role][level], mine) for role in self.roles]
                targets = class_targets(output, mine, kind)
                assert targets is not None  # class maps have labels
                ensemble = self.combine(of_roles, targets)
                pairs.append(Pair(mine.values, ensemble, context_of(output, mine, kind, level, len(grids[learner]))))
            losses[f'{learner}.loss_kdcl'] = self.weight * class_divergence(pairs, self.divergence)
        return DistillerOutput(losses)
