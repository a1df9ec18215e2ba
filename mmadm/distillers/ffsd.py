"""Feature fusion and self-distillation (Li et al., arXiv 2103.14473; methods.md, section 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.distillers.base import Distiller, Facts, class_divergence, mean_of
from mmadm.distillers.grids import grids_of
from mmadm.distillers.pairs import Edge, Outputs, Pair, context_of, names
from mmadm.functional import (
    attention_distance,
    attention_diversity,
    attention_map,
    diversity_target,
    warmup_ramp,
)
from mmadm.losses.kl import ClassDivergence, Normaliser
from mmadm.modules import resize_like
from mmadm.modules.fusion import FeatureFusion, LeaderTransform, SelfDistillation
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, RoleOutput, Step, Tap, is_loss
from mmadm.utils.errors import ConfigError, require_list

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
        tau: Temperature of every divergence; by default 2, and 1 where each class has a sigmoid.
        diversity: ``lambda_div``: pushes a student's attention off the former student's.
        fusion: ``lambda_fusion``: pulls the leader's attention to the fused feature's.
        self_distillation: ``lambda_sd``: weight of what trains the chains.
        warmup: Iterations until the three coefficients are reached.
        normaliser: See :class:`~mmadm.losses.kl.ClassDivergence`.
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
        tau: float | None = None,
        diversity: float = 1e-5,
        fusion: float = 10.0,
        self_distillation: float = 1000.0,
        warmup: int = 0,
        normaliser: Normaliser = 'mean',
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
        self.divergence = ClassDivergence('FFSD', tau, normaliser, usual_tau=2.0)
        self.coefficients = {'diversity': diversity, 'fusion': fusion, 'chain': self_distillation}
        self.warmup = warmup

    @property
    def _with_chain(self) -> list[str]:
        """Roles whose shallower features are pulled to what a chain makes; the first student has no former one."""
        return [*(self.students[1:] if self.coefficients['diversity'] else ()), self.leader]

    def edges(self) -> list[Edge]:
        """None: every role looks at several others through the fusion."""
        return []

    def taps(self) -> dict[str, set[Tap]]:
        """Logits, last and shallower features of every role."""
        bases = ('logits', self.at, *self.shallow)
        return {role: {Tap.parse(role, base) for base in bases} for role in [*self.students, self.leader]}

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Build fusion, classifier and chains.

        Returns:
            By key: the entry of ``optim_wrapper`` that trains a module, and the module.

        Raises:
            ConfigError: If a role is frozen or of another architecture, or a chain cannot reach a shallower feature.
        """
        self.trainable = frozenset(trainable)
        leader = facts[self.leader]
        for role in [*self.students, self.leader]:
            if role not in trainable:
                raise ConfigError(f'FFSD: role {role!r} is frozen; every role learns')
            if facts[role].architecture != leader.architecture:
                raise ConfigError(
                    f'FFSD: roles {role!r} and {self.leader!r} differ in architecture; give them one config'
                )
        if leader.new_head is None or leader.head_loss is None:
            raise ConfigError(f'FFSD: {self.leader!r} has no head that can be made anew for the fused feature')
        self._head_loss = leader.head_loss
        found: dict[str, tuple[str, nn.Module]] = {'head': (FUSION, leader.new_head())}
        for level, feature in enumerate(self._levels(leader.output, self.at)):
            channels, count = feature.shape[1], len(self.students)
            found[f'fuse_{level}'] = (FUSION, FeatureFusion(channels, count))
            found[f'transform_{level}'] = (self.leader, LeaderTransform(channels, count))
        if self.shallow:
            shapes = [self._levels(leader.output, tap)[-1].shape for tap in (self.at, *self.shallow)]
            sizes = [(shape[1], shape[2]) for shape in shapes]
            for role in self._with_chain:
                try:
                    found[f'chain_{role}'] = (CHAIN, SelfDistillation(sizes[0], sizes[1:]))
                except ValueError as error:
                    raise ConfigError(f'FFSD.shallow={self.shallow}: {error}') from error
        return found

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return the losses of students, fusion, leader and chains; see :class:`Distiller`."""
        ramp = warmup_ramp(1.0, step.iteration + 1, self.warmup)
        scale = {name: ramp * value for name, value in self.coefficients.items()}
        losses = self._students(outputs, step, scale)
        fused, logits, task = self._fusion(outputs, step)
        own = {f'{FUSION}.{key}': value for key, value in task.items()}
        losses.update({key: value for key, value in own.items() if is_loss(key)})
        losses.update(self._leader(outputs, fused, logits, step, scale))
        for role in self._with_chain if self.shallow else ():
            last = self._levels(outputs[role], self.at)[-1].detach()
            made = self._made(outputs[role], step.connectors[f'chain_{role}'](last))
            terms = [
                attention_distance(target, own, mask)
                + attention_distance(attention_map(target), attention_map(own), mask)
                for target, own, mask in made
            ]
            losses[f'{CHAIN}.loss_{role}'] = scale['chain'] * torch.stack(terms).sum()
        return DistillerOutput(losses, {key: value for key, value in own.items() if not is_loss(key)})

    def _students(self, outputs: Outputs, step: Step, scale: Mapping[str, float]) -> dict[str, Tensor]:
        """Mutual learning, and a diversity that moves each student's attention off the former student's."""
        losses = {}
        for index, role in enumerate(self.students):
            peers = [self._kl(outputs[role], self._levels(outputs[p], 'logits')) for p in self.students if p != role]
            losses[f'{role}.loss_peers'] = mean_of(peers)
            if index == 0 or self.coefficients['diversity'] == 0:
                continue
            former = [level.detach() for level in self._levels(outputs[self.students[index - 1]], self.at)]
            masks = [grid.image_mask() for grid in grids_of(outputs[role], Tap.parse(role, self.at))]
            triples = zip(self._levels(outputs[role], self.at), former, masks, strict=True)
            term = mean_of([attention_diversity(attention_map(a), attention_map(b), mask) for a, b, mask in triples])
            if self.shallow:
                target = diversity_target(former[-1], masks[-1])
                term = term + self._from_chain(outputs[role], target, step)
            losses[f'{role}.loss_diversity'] = scale['diversity'] * term
        return losses

    def _fusion(self, outputs: Outputs, step: Step) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """Fuse the students' detached features; the fused classifier learns from labels and from the students' mean."""
        levels = zip(*(self._levels(outputs[role], self.at) for role in self.students), strict=True)
        fused = [step.connectors[f'fuse_{i}']([f.detach() for f in level]) for i, level in enumerate(levels)]
        leader = outputs[self.leader]
        task, logits = self._head_loss(step.connectors['head'], fused, leader.data_samples)
        scores = zip(*(self._levels(outputs[role], 'logits') for role in self.students), strict=True)
        means = [torch.stack(level).mean(dim=0) for level in scores]
        return fused, logits, {**task, 'loss_students': self._kl(leader, means, logits)}

    def _leader(
        self, outputs: Outputs, fused: list[Tensor], logits: list[Tensor], step: Step, scale: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """The leader learns the fused predictions, and to look where the fused and all students' features look."""
        output, terms = outputs[self.leader], []
        for level, grid in enumerate(grids_of(output, Tap.parse(self.leader, self.at))):
            feature, mask = grid.values, grid.image_mask()
            of_students = [self._levels(outputs[role], self.at)[level].detach() for role in self.students]
            joined, spread = torch.cat(of_students, dim=1), step.connectors[f'transform_{level}'](feature)
            terms.append(attention_distance(attention_map(feature), attention_map(fused[level].detach()), mask))
            terms.append(attention_distance(attention_map(spread), attention_map(joined), mask))
        term = 2 * mean_of(terms)
        if self.shallow:
            term = term + self._from_chain(output, fused[-1], step)
        return {
            f'{self.leader}.loss_fused': self._kl(output, logits),
            f'{self.leader}.loss_fusion': scale['fusion'] * term,
        }

    def _kl(self, output: RoleOutput, sources: Sequence[Tensor], learner: Sequence[Tensor] | None = None) -> Tensor:
        """``tau^2 KL(sg(source) || learner)``, the mean over levels; by default the role's own logits learn."""
        (tap,) = (tap for tap in output.taps if tap.base == 'logits')
        kind, pairs = output.taps[tap].kind, []
        for level, (grid, source) in enumerate(zip(grids_of(output, tap), sources, strict=True)):
            mine = grid.values if learner is None else learner[level]
            pairs.append(Pair(mine, source, context_of(output, grid, kind, level, len(sources))))
        return class_divergence(pairs, self.divergence)

    def _from_chain(self, output: RoleOutput, last: Tensor, step: Step) -> Tensor:
        """Pull a network's shallower attention to what its chain, in eval mode, makes of another last feature."""
        role = next(iter(output.taps)).role
        with torch.no_grad():
            chain: Any = step.connectors[f'chain_{role}']
            targets = chain.targets(last)
        # before torch 2.10 autocast would give the weights that it cast here, without gradient, to the chain's training
        torch.clear_autocast_cache()
        made = self._made(output, targets, learns=True)
        terms = [attention_distance(attention_map(own), attention_map(target), mask) for target, own, mask in made]
        return torch.stack(terms).sum()

    def _made(
        self, output: RoleOutput, made: Sequence[Tensor], learns: bool = False
    ) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Pair what a chain makes with the network's own feature and its mask: a stride rounds odd sizes up.

        The network's own is detached unless it ``learns``.
        """
        found = []
        for tap, target in zip(self.shallow, made, strict=True):
            grid = grids_of(output, Tap.parse(next(iter(output.taps)).role, tap))[-1]
            own = grid.values if learns else grid.values.detach()
            found.append((resize_like(target, own), own, grid.image_mask()))
        return found

    @staticmethod
    def _levels(output: RoleOutput, base: str) -> list[Tensor]:
        """The tensors of a role's tap."""
        return output.taps[Tap.parse(next(iter(output.taps)).role, base)].levels
