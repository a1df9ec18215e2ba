"""Feature fusion and self-distillation (Li et al., arXiv 2103.14473; methods.md, section 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Edge, Outputs, class_divergence, mean_of, names
from mmadm.functional import (
    attention_distance,
    attention_diversity,
    attention_map,
    diversity_target,
    warmup_ramp,
)
from mmadm.modules import resize_like
from mmadm.modules.fusion import FeatureFusion, LeaderTransform, SelfDistillation
from mmadm.registry import MODELS
from mmadm.structures import RoleOutput
from mmadm.utils.errors import ConfigError, require_list
from mmadm.utils.random import current_iteration

FUSION, CHAIN = 'fusion', 'self_distillation'


@MODELS.register_module()
class FFSD(Distiller):
    """Common students learn from each other, a fusion of their features from them, and a leader from the fusion.

    All roles have one architecture; only the leader is kept. The fusion with its own classifier and the
    self-distillation chains are trained by entries of their own in ``optim_wrapper``: ``fusion`` and
    ``self_distillation``.

    Args:
        students: At least two common students.
        leader: The role that is deployed.
        at: Tap of the last features: ``pre_logits`` in segmentation, ``feats`` (fused level by level) in detection.
        shallow: Taps of shallower features, deepest first; none switches self-distillation off.
        tau: Temperature of every divergence.
        diversity: ``lambda_div``: pushes a student's attention off the former student's.
        fusion: ``lambda_fusion``: pulls the leader's attention to the fused feature's.
        self_distillation: ``lambda_sd``: weight of what trains the chains.
        warmup: Iterations until the three coefficients are reached.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If there are fewer than two students or the leader is one of them; if ``shallow`` is a string.
    """

    def __init__(
        self,
        students: Sequence[str],
        leader: str = 'leader',
        at: str = 'pre_logits',
        shallow: Sequence[str] = (),
        tau: float = 2.0,
        diversity: float = 1e-5,
        fusion: float = 10.0,
        self_distillation: float = 1000.0,
        warmup: int = 0,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        self.students = names(students, 'FFSD.students')
        if len(self.students) < 2 or leader in self.students:
            raise ConfigError(f'FFSD.students={list(students)}: needs at least two, and {leader!r} not among them')
        require_list('FFSD.shallow', shallow)
        self.leader = leader
        self.at = at
        self.shallow = list(shallow)
        self.tau = tau
        self.coefficients = {'diversity': diversity, 'fusion': fusion, 'chain': self_distillation}
        self.warmup = warmup

    @property
    def _with_chain(self) -> list[str]:
        """Roles whose shallower features are pulled to what a chain makes; the first student has no former one."""
        return [*(self.students[1:] if self.coefficients['diversity'] else ()), self.leader]

    def edges(self) -> list[Edge]:
        """None: every role looks at several others through the fusion."""
        return []

    def taps(self) -> dict[str, set[str]]:
        """Logits, last and shallower features of every role."""
        return {role: {'logits', self.at, *self.shallow} for role in [*self.students, self.leader]}

    def bind(self, probe: Outputs, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Build fusion, classifier and chains.

        Returns:
            By key: the entry of ``optim_wrapper`` that trains a module, and the module.

        Raises:
            ConfigError: If a role is frozen or of another architecture, or a chain cannot reach a shallower feature.
        """
        self.trainable = frozenset(trainable)
        leader = probe[self.leader]
        for role in [*self.students, self.leader]:
            if role not in trainable:
                raise ConfigError(f'FFSD: role {role!r} is frozen; every role learns')
            if probe[role].architecture != leader.architecture:
                raise ConfigError(
                    f'FFSD: roles {role!r} and {self.leader!r} differ in architecture; give them one config'
                )
        if leader.new_head is None:
            raise ConfigError(f'FFSD: {self.leader!r} has no head that can be made anew for the fused feature')
        found: dict[str, tuple[str, nn.Module]] = {'head': (FUSION, leader.new_head())}
        for level, feature in enumerate(leader.taps[self.at]):
            channels, count = feature.shape[1], len(self.students)
            found[f'fuse_{level}'] = (FUSION, FeatureFusion(channels, count))
            found[f'transform_{level}'] = (self.leader, LeaderTransform(channels, count))
        if self.shallow:
            sizes = [_size(leader.taps[tap][-1]) for tap in (self.at, *self.shallow)]
            for role in self._with_chain:
                try:
                    found[f'chain_{role}'] = (CHAIN, SelfDistillation(sizes[0], sizes[1:]))
                except ValueError as error:
                    raise ConfigError(f'FFSD.shallow={self.shallow}: {error}') from error
        return found

    def forward(self, outputs: Outputs, connectors: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Return the losses of students, fusion, leader and chains; see :class:`Distiller`."""
        self.ramp = warmup_ramp(1.0, current_iteration() + 1, self.warmup)
        features = {role: outputs[role].taps[self.at] for role in self.taps()}
        losses = self._students(outputs, features, connectors)
        fused, logits, of_fusion = self._fusion(outputs, features, connectors)
        losses.update(of_fusion)
        losses.update(self._leader(outputs, features, fused, logits, connectors))
        for role in self._with_chain if self.shallow else ():
            losses[f'{CHAIN}.loss_{role}'] = self._chain(outputs[role], features[role][-1], connectors[f'chain_{role}'])
        return losses

    def _students(
        self, outputs: Outputs, features: Mapping[str, list[Tensor]], connectors: Mapping[str, nn.Module]
    ) -> dict[str, Tensor]:
        """Mutual learning, and a diversity that moves each student's attention off the former student's."""
        losses = {}
        for index, role in enumerate(self.students):
            peers = [self._kl(outputs[role], outputs[p].taps['logits']) for p in self.students if p != role]
            losses[f'{role}.loss_peers'] = mean_of(peers)
            if index == 0 or self.coefficients['diversity'] == 0:
                continue
            former = [level.detach() for level in features[self.students[index - 1]]]
            pairs = zip(features[role], former, strict=True)
            term = mean_of([attention_diversity(attention_map(a), attention_map(b)) for a, b in pairs])
            if self.shallow:
                term = term + self._from_chain(outputs[role], diversity_target(former[-1]), connectors[f'chain_{role}'])
            losses[f'{role}.loss_diversity'] = self.coefficients['diversity'] * self.ramp * term
        return losses

    def _fusion(
        self, outputs: Outputs, features: Mapping[str, list[Tensor]], connectors: Mapping[str, nn.Module]
    ) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """Fuse the students' detached features; the fused classifier learns from labels and from the students' mean."""
        levels = list(zip(*(features[role] for role in self.students), strict=True))
        fused = [connectors[f'fuse_{i}']([f.detach() for f in level]) for i, level in enumerate(levels)]
        leader = outputs[self.leader]
        task, logits = leader.head_loss(connectors['head'], fused) if leader.head_loss else ({}, [])
        losses = {f'{FUSION}.{key}': value for key, value in task.items()}
        means = [
            torch.stack(level).mean(dim=0)
            for level in zip(*(outputs[r].taps['logits'] for r in self.students), strict=True)
        ]
        losses[f'{FUSION}.loss_students'] = self._kl(leader, means, logits)
        return fused, logits, losses

    def _leader(
        self,
        outputs: Outputs,
        features: Mapping[str, list[Tensor]],
        fused: list[Tensor],
        logits: list[Tensor],
        connectors: Mapping[str, nn.Module],
    ) -> dict[str, Tensor]:
        """The leader learns the fused predictions, and to look where the fused and all students' features look."""
        output, terms = outputs[self.leader], []
        for level, feature in enumerate(features[self.leader]):
            joined = torch.cat([features[role][level].detach() for role in self.students], dim=1)
            spread = connectors[f'transform_{level}'](feature)
            terms.append(attention_distance(attention_map(feature), attention_map(fused[level].detach())))
            terms.append(attention_distance(attention_map(spread), attention_map(joined)))
        term = 2 * mean_of(terms)
        if self.shallow:
            term = term + self._from_chain(output, fused[-1].detach(), connectors[f'chain_{self.leader}'])
        return {
            f'{self.leader}.loss_fused': self._kl(output, logits),
            f'{self.leader}.loss_fusion': self.coefficients['fusion'] * self.ramp * term,
        }

    def _kl(self, output: RoleOutput, sources: Sequence[Tensor], learner: Sequence[Tensor] | None = None) -> Tensor:
        """``tau^2 KL(sg(source) || learner)``, the mean over levels; by default the role's own logits learn."""
        pairs = zip(output.taps['logits'] if learner is None else learner, sources, strict=True)
        return class_divergence(output, list(pairs), self.tau)

    def _chain(self, output: RoleOutput, last: Tensor, chain: nn.Module) -> Tensor:
        """Train a chain: features and attention that it makes from the last feature against the network's own."""
        terms = [
            attention_distance(made, own) + attention_distance(attention_map(made), attention_map(own))
            for made, own in self._made(output, last.detach(), chain.train())
        ]
        return self.coefficients['chain'] * self.ramp * torch.stack(terms).sum()

    def _from_chain(self, output: RoleOutput, last: Tensor, chain: nn.Module) -> Tensor:
        """Pull a network's shallower attention to what its chain, in eval mode, makes of another last feature."""
        with torch.no_grad():
            targets = [made for made, _ in self._made(output, last, chain.eval())]
        # before torch 2.10 autocast would give the weights that it cast here, without gradient, to `_chain`
        torch.clear_autocast_cache()
        own = [output.taps[tap][-1] for tap in self.shallow]
        return torch.stack(
            [attention_distance(attention_map(a), attention_map(b)) for a, b in zip(own, targets, strict=True)]
        ).sum()

    def _made(self, output: RoleOutput, last: Tensor, chain: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Pair what a chain makes of a last feature with the network's own, detached: a stride rounds odd sizes up."""
        own = [output.taps[tap][-1].detach() for tap in self.shallow]
        return [(resize_like(made, feature), feature) for made, feature in zip(chain(last), own, strict=True)]


def _size(feature: Tensor) -> tuple[int, int]:
    return feature.shape[1], feature.shape[2]
