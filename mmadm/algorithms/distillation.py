"""Several networks that learn together, or from frozen ones, in one training run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmadm.adapters.labels import check_labels
from mmadm.algorithms.build_distillers import build_distillers, check_reached, rename_former_connectors
from mmadm.algorithms.frozen import check_teaches_only, teacher_precision
from mmadm.algorithms.inherit import bequests, inherit
from mmadm.algorithms.loading import initialise, settle_weights
from mmadm.algorithms.partly_trained import freeze_all_but, set_mode
from mmadm.algorithms.paused_roles import BuffersBefore
from mmadm.algorithms.preprocessor import RolePreprocessor
from mmadm.algorithms.role_runner import RoleRunner, wanted_taps
from mmadm.algorithms.roles import build_roles, check_names
from mmadm.algorithms.shared_prefix import copied_roles, copy_weights
from mmadm.algorithms.taught_roles import leave_alone, taught_roles
from mmadm.distillers import Distiller
from mmadm.registry import MODELS
from mmadm.structures import RoleFacts, RoleOutput, Step, is_loss
from mmadm.utils.config import role_cfgs
from mmadm.utils.errors import ConfigError, near_matches
from mmadm.utils.eval_mode import evaluating
from mmadm.utils.progress import Progress
from mmadm.utils.random import role_stream, untouched_generators


@MODELS.register_module()
class Distillation(BaseModel):
    """Trains stock networks together; stock configs go in, stock checkpoints come out.

    Losses are summed and one backward runs; each loss reaches only its learner. Loss keys are ``<role>.<name>``.

    Args:
        roles: By name: a full model dict, or ``dict(cfg=<path | pkg::path | model dict>, checkpoint=<file | URL>)``;
            ``like=<role>`` instead of ``cfg`` copies another role's network and checkpoint, ``train=[<module>, ...]``
            lets only these modules learn, ``inherit=dict(<role>=[<module>, ...])`` starts with modules of another role,
            ``task_loss=False`` lets it learn from distillers alone.
        distillers: Configs of distillers; none trains the roles side by side.
        frozen: Roles that only teach: in eval as a whole, without gradient, loss or needless heads.
        deploy: Role that ``predict`` runs and that is exported.
        data_preprocessor: For roles that name none of their own; the Runner passes a config's top-level one here.
        teacher_dtype: Precision in which frozen roles run (``bfloat16``, ``float16``, ``float32``), by default that of
            the others.
        compile: Whether ``torch.compile`` speeds up the frozen roles.

    Attributes:
        check_losses: Called with the summed loss and all logged values before the backward pass; a hook sets it.

    Raises:
        ConfigError: If a role, tap or option does not exist or roles do not fit together.
        CheckpointError: If a role's checkpoint is missing, torn or of another architecture.
    """

    def __init__(
        self,
        roles: Any = None,
        distillers: Sequence[Mapping[str, Any]] = (),
        frozen: Sequence[str] = (),
        deploy: str = 'student',
        data_preprocessor: Mapping[str, Any] | None = None,
        teacher_dtype: str | None = None,
        compile: bool = False,
        **unknown: Any,
    ) -> None:
        for key in unknown:
            raise ConfigError(
                f'model.{key}: unknown; {near_matches(key, list(signature(Distillation).parameters)[:-1])}'
            )
        check_names(roles, frozen, deploy)
        copies, roles = copied_roles(roles, frozen), role_cfgs(roles)
        built, adapters, preprocessors, origins = build_roles(roles, data_preprocessor)
        trainable = tuple(name for name in roles if name not in frozen)
        check_teaches_only(built, frozen, deploy)
        super().__init__(data_preprocessor=RolePreprocessor(preprocessors, trainable, deploy))
        self.roles: Any = built
        self.frozen = tuple(frozen)
        self.trainable = trainable
        self.deploy = self.predicting = deploy
        self.check_losses: Callable[[Tensor, dict[str, Tensor]], None] | None = None
        self.origins = origins
        self.progress = Progress()
        self._copies = copies
        for name in self.frozen:
            self.roles[name].requires_grad_(False).eval()
        self._parts = {name: list(cfg.get('train') or ()) for name, cfg in roles.items()}
        for name in (role for role in trainable if self._parts[role]):
            freeze_all_but(name, self.roles[name], self._parts[name])
        parts = build_distillers(distillers, roles)
        self.distillers: Any = nn.ModuleDict(parts)
        self.connectors: Any = nn.ModuleDict()
        self._connector_owner: dict[tuple[str, str], str] = {}
        self._taught = taught_roles(roles, self.frozen)
        self._runner = RoleRunner(built, adapters, self.frozen, teacher_precision(teacher_dtype), self._taught)
        with untouched_generators():  # connectors are drawn, too
            self._bind_distillers()
        self.heirs = bequests(self.roles, roles, self.frozen, self.origins)
        self.frozen_roles = settle_weights(self, adapters, wanted_taps(parts.values()), self._parts)
        for name in self._taught:
            leave_alone(name, self.roles[name], adapters[name], parts.values())
        if compile:
            self._runner.compile_frozen(wanted_taps(parts.values()))
        self.register_load_state_dict_pre_hook(_rename_former)

    def init_weights(self) -> None:
        """Initialise every role that has no checkpoint as the stock toolbox would, but a bridge as its teacher."""
        for index, (name, role) in enumerate(self.roles.items()):
            if name not in self.origins:
                with role_stream(index):
                    initialise(name, role)
        copy_weights(self.roles, self._copies)
        inherit(self.roles, self.heirs)
        self._is_init = True

    def train(self, mode: bool = True) -> Distillation:
        """Set the mode of every part except the frozen roles, which stay in eval (law 5)."""
        self.training = mode
        for part in [*self.distillers.values(), *self.connectors.values()]:
            part.train(mode)
        for name in self.trainable:
            set_mode(self.roles[name], self._parts[name], mode)
        return self

    @property
    def owners(self) -> tuple[str, ...]:
        """Names that have an optimiser: the trainable roles, then parts of methods such as FFSD's ``fusion``."""
        return tuple(dict.fromkeys([*self.trainable, *self._connector_owner.values()]))

    def owned_by(self, role: str) -> nn.Module:
        """Everything that an optimiser moves.

        Args:
            role: One of :attr:`owners`.

        Returns:
            A module with the children ``<role>`` and ``connectors`` (those that this role learns).
        """
        holder = nn.Module()
        if role in self.roles:
            holder.add_module(role, self.roles[role])
        owned = nn.ModuleDict(
            {
                f'{distiller}_{key}': self.connectors[distiller][key]
                for (distiller, key), learner in self._connector_owner.items()
                if learner == role
            }
        )
        holder.add_module('connectors', owned)
        return holder

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Run a training step's forward pass, or the predicting role.

        Args:
            inputs: In mode ``loss`` images (N, C, H, W) by role; else the images of the predicting role.
            data_samples: In mode ``loss`` stock data samples by role; else a list of them.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            In mode ``loss`` losses and monitors by ``<role>.<name>``; else what the stock model returns.
        """
        if mode != 'loss':
            return self.roles[self.predicting](inputs, data_samples, mode=mode)
        self.progress.advance()
        step = Step(self.progress.iteration, self.progress.epoch)
        active = {name: part for name, part in self.distillers.items() if part.active(step)}
        buffers = BuffersBefore(self.roles, {role for part in active.values() for role in part.may_pause})
        regions = {(edge.learner.role, edge.source) for part in active.values() for edge in part.edges()}
        taps = wanted_taps(active.values())
        outputs = self._runner.run(inputs, data_samples, taps, step.iteration, sorted(regions, key=str))
        if torch.is_grad_enabled():
            check_reached(active, outputs)
        losses = {f'{role}.{key}': value for role, out in outputs.items() for key, value in out.losses.items()}
        pauses: dict[str, Tensor] = {}
        # avatars and masks draw from a stream of their own: exact to resume, other numbers on each rank
        with role_stream(len(self.roles), step.iteration):
            for name, part in active.items():
                found, factor = part(outputs, self.step_of(name)), part.schedule(step.iteration, step.epoch)
                scaled = {key: value if factor == 1 else value * factor for key, value in found.losses.items()}
                for key, value in {**scaled, **found.monitors}.items():
                    losses[key if key not in losses else f'{key}_{name}'] = value
                pauses.update(found.pauses)
        return {**buffers.undo_paused(losses, pauses), **self._idle_connectors(active)}

    def step_of(self, name: str) -> Step:
        """What a distiller may know of the present training step, by its name."""
        connectors = self.connectors[name] if name in self.connectors else {}
        return Step(self.progress.iteration, self.progress.epoch, connectors)

    @torch.no_grad()
    def look(self, item: Mapping[str, Any], distillers: Mapping[str, Distiller]) -> dict[str, RoleOutput]:
        """What distillers' taps see of one packed image; neither weights, buffers, modes nor generators change.

        Args:
            item: ``inputs`` (C, H, W) and ``data_samples`` of a stock data set.
            distillers: Those that look.
        """
        with evaluating(self), untouched_generators():
            return self._runner.look(item, wanted_taps(distillers.values()))

    def val_step(self, data: Any) -> list[Any]:
        """Predict a validation batch with the predicting role's own stock ``val_step``."""
        return self.roles[self.predicting].val_step(data)

    def test_step(self, data: Any) -> list[Any]:
        """Predict a test batch with the predicting role's own stock ``test_step``."""
        return self.roles[self.predicting].test_step(data)

    def parse_losses(self, losses: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum what trains, and add a total for each role.

        Args:
            losses: What :meth:`forward` returned.

        Returns:
            The scalar for the one backward pass, and everything that is logged.
        """
        total, trained = super().parse_losses({key: value for key, value in losses.items() if is_loss(key)})
        _, monitored = super().parse_losses({key: value for key, value in losses.items() if not is_loss(key)})
        log_vars = {'loss': total, **{key: trained[key] if is_loss(key) else monitored[key] for key in losses}}
        for role in self.trainable:
            mine = [value for key, value in trained.items() if key.startswith(f'{role}.')]
            if mine:  # a role that pauses has none
                log_vars[f'{role}.loss'] = torch.stack(mine).sum()
        if self.check_losses is not None:
            self.check_losses(total, log_vars)
        return total, log_vars

    @property
    def may_pause(self) -> frozenset[str]:
        """Roles that a distiller may stop for an iteration; DDP has to expect that they get no gradient."""
        return frozenset(role for distiller in self.distillers.values() for role in distiller.may_pause)

    def check_data(self, dataset: Any) -> None:
        """Check a training set's labels against every role with a task loss; ConfigError names the file."""
        check_labels({name: self.roles[name] for name in self.trainable if name not in self._taught}, dataset)

    def facts(self) -> dict[str, RoleFacts]:
        """What a dry run on a blank image finds out about every role that a distiller looks at."""
        shared = self.data_preprocessor.shared
        copies = {name: source for name, source in self._copies.items() if shared(name, source)}
        with untouched_generators():
            return self._runner.dry_run(wanted_taps(self.distillers.values()), self._parts, copies)

    def _bind_distillers(self) -> None:
        """Show the distillers what a dry run finds out, and take the connectors that they ask for."""
        facts = self.facts()
        synchronised = any(isinstance(module, nn.SyncBatchNorm) for module in self.roles.modules())
        for name, distiller in self.distillers.items():
            found = distiller.bind(facts, self.trainable)
            if found:
                parts = nn.ModuleDict({key: module for key, (_, module) in found.items()})
                # fusions and projections normalise: over all ranks, where the roles do
                self.connectors[name] = nn.SyncBatchNorm.convert_sync_batchnorm(parts) if synchronised else parts
            self._connector_owner.update({(name, key): learner for key, (learner, _) in found.items()})

    def _idle_connectors(self, active: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """DDP waits for a gradient of every parameter: give those of a stopped distiller a zero."""
        stopped = [part for name, part in self.connectors.items() if name not in active]
        idle = [p.sum() for part in stopped for p in part.parameters() if p.requires_grad]
        return {'idle_loss': 0.0 * torch.stack(idle).sum()} if idle else {}


def _rename_former(model: Distillation, state: dict[str, Any], prefix: str, *_: Any) -> None:
    rename_former_connectors(model.distillers, state, prefix)
