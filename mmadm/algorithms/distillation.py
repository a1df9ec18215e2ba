"""Several networks that learn together, or from frozen ones, in one training run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmadm.adapters.labels import check_labels
from mmadm.algorithms.frozen import compile_around, lowered, scoring_lowered, teacher_precision
from mmadm.algorithms.methods import build_distillers, check_reached
from mmadm.algorithms.partial import freeze_all_but, set_mode
from mmadm.algorithms.pause import buffer_copies, restore_buffers
from mmadm.algorithms.prefix import Prefix, copied_roles, copy_weights, fed_from, recorded, replayed, shared_paths
from mmadm.algorithms.preprocessor import RolePreprocessor
from mmadm.algorithms.roles import build_roles, check_names
from mmadm.algorithms.views import TapViews
from mmadm.distillers import Distiller
from mmadm.registry import MODELS
from mmadm.structures import RoleOutput
from mmadm.utils.config import role_cfgs
from mmadm.utils.errors import NonFiniteLossError
from mmadm.utils.random import current_iteration, role_stream, untouched_generators

#: Side of the square image of the dry run in pixels: enough for output stride 32 and pyramid pooling
DRY_RUN_SIZE = 128


@MODELS.register_module()
class Distillation(BaseModel, TapViews):
    """Trains stock networks together; stock configs go in, stock checkpoints come out.

    Losses are summed and one backward runs; each loss reaches only its learner. Loss keys are ``<role>.<name>``.

    Args:
        roles: By name: a full model dict, or ``dict(cfg=<path | pkg::path | model dict>, checkpoint=<file | URL>)``;
            ``like=<role>`` instead of ``cfg`` copies another role's network and checkpoint, ``train=[<module>, ...]``
            lets only these modules learn.
        distillers: Configs of distillers; none trains the roles side by side.
        frozen: Roles that only teach: in eval as a whole, without gradient, loss or needless heads.
        deploy: Role that ``predict`` runs and that is exported.
        data_preprocessor: For roles that name none of their own; the Runner passes a config's top-level one here.
        teacher_dtype: Precision in which frozen roles run (``bfloat16``, ``float16``, ``float32``), by default that of
            the others.
        compile: Whether ``torch.compile`` speeds up the frozen roles.

    Raises:
        ConfigError: If a role, tap or option does not exist or roles do not fit together.
        CheckpointError: If a role's checkpoint is missing, torn or of another architecture.
    """

    def __init__(
        self,
        roles: Mapping[str, Mapping[str, Any]],
        distillers: Sequence[Mapping[str, Any]] = (),
        frozen: Sequence[str] = (),
        deploy: str = 'student',
        data_preprocessor: Mapping[str, Any] | None = None,
        teacher_dtype: str | None = None,
        compile: bool = False,
    ) -> None:
        check_names(roles, frozen, deploy)
        copies, roles = copied_roles(roles, frozen), role_cfgs(roles)
        built, adapters, preprocessors, origins = build_roles(roles, data_preprocessor)
        trainable = tuple(name for name in roles if name not in frozen)
        super().__init__(data_preprocessor=RolePreprocessor(preprocessors, trainable, deploy))
        self.roles = built
        self.frozen = tuple(frozen)
        self.trainable = trainable
        self.deploy = deploy
        self.predicting = deploy
        self.before_abort: Callable[[], None] | None = None
        self.origins = origins
        self._teacher_dtype = teacher_precision(teacher_dtype)
        self._adapters = adapters
        self._copies = copies
        for name in self.frozen:
            self.roles[name].requires_grad_(False).eval()
        self._parts = {name: list(cfg.get('train', ())) for name, cfg in roles.items()}
        for name in (role for role in trainable if self._parts[role]):
            freeze_all_but(name, self.roles[name], self._parts[name])
        self.distillers = nn.ModuleDict(build_distillers(distillers, roles))
        self.connectors = nn.ModuleDict()
        self._connector_owner: dict[tuple[str, str], str] = {}
        self._prefixes: dict[str, Prefix] = {}
        with untouched_generators():
            self._infer_connectors()
        if compile:
            for name, taps in self._wanted(self.distillers.values()).items():
                if name in self.frozen:
                    tapped = self._adapters[name].paths(self.roles[name], taps)
                    compile_around(self.roles[name], [*tapped, *fed_from(self._prefixes, name)])

    def init_weights(self) -> None:
        """Initialise every role that has no checkpoint as the stock toolbox would, but a bridge as its teacher."""
        for index, (name, role) in enumerate(self.roles.items()):
            if name not in self.origins:
                with role_stream(index):
                    role.init_weights()
        copy_weights(self.roles, self._copies)
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
            inputs: In mode ``loss`` images (N, 3, H, W) by role; else the images of the predicting role.
            data_samples: In mode ``loss`` stock data samples by role; else a list of them.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            In mode ``loss`` losses and monitors by ``<role>.<name>``; else what the stock model returns.
        """
        if mode != 'loss':
            return self.roles[self.predicting](inputs, data_samples, mode=mode)
        iteration = current_iteration()
        active = {name: d for name, d in self.distillers.items() if d.active(iteration)}
        before = {role: buffer_copies(self.roles[role]) for d in active.values() for role in d.may_pause}
        outputs = self._run_roles(inputs, data_samples, active, iteration)
        if torch.is_grad_enabled():
            check_reached(active, outputs)
        losses = {f'{role}.{key}': value for role, out in outputs.items() for key, value in out.losses.items()}
        # avatars and masks draw from a stream of their own: exact to resume, other numbers on each rank
        with role_stream(len(self.roles), iteration):
            for name, distiller in active.items():
                factor = distiller.schedule(iteration)
                connectors = self.connectors[name] if name in self.connectors else {}
                for key, value in distiller(outputs, connectors).items():
                    unique = key if key not in losses else f'{key}_{name}'
                    losses[unique] = value * factor if factor != 1 and 'loss' in key else value
        for role, copies in before.items():
            if losses[f'{role}.expert']:
                restore_buffers(self.roles[role], copies)
                # without a loss there is no gradient, and optimisers leave such parameters and their momentum alone
                losses = {key: v for key, v in losses.items() if 'loss' not in key or not key.startswith(f'{role}.')}
        return {**losses, **self._idle_connectors(active)}

    def val_step(self, data: Any) -> list[Any]:
        """Predict a validation batch with the predicting role's own stock ``val_step``."""
        return self.roles[self.predicting].val_step(data)

    def test_step(self, data: Any) -> list[Any]:
        """Predict a test batch with the predicting role's own stock ``test_step``."""
        return self.roles[self.predicting].test_step(data)

    def parse_losses(self, losses: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum what trains, add a total for each role, and stop on a loss that is not finite.

        Args:
            losses: What :meth:`forward` returned.

        Returns:
            The scalar for the one backward pass, and everything that is logged.

        Raises:
            NonFiniteLossError: On every rank if any rank has a NaN or infinite loss; before the backward pass.
        """
        total, log_vars = super().parse_losses(losses)
        for role in self.trainable:
            mine = [v for k, v in log_vars.items() if k.startswith(f'{role}.') and 'loss' in k]
            if mine:  # a role that pauses has none
                log_vars[f'{role}.loss'] = torch.stack(mine).sum()
        self._stop_if_not_finite(total, log_vars)
        return total, log_vars

    @property
    def may_pause(self) -> frozenset[str]:
        """Roles that a distiller may stop for an iteration; DDP has to expect that they get no gradient."""
        return frozenset(role for distiller in self.distillers.values() for role in distiller.may_pause)

    def check_data(self, dataset: Any) -> None:
        """Check a training set's labels against every trainable role; ConfigError names the file."""
        check_labels({name: self.roles[name] for name in self.trainable}, dataset)

    def _infer_connectors(self) -> None:
        """Infer connectors by a dry run, and what a role need not run that is a copy of a frozen one."""
        wanted = self._wanted(self.distillers.values())
        probe = {}
        for name, taps in wanted.items():
            role = self.roles[name].eval()
            run = partial(self._adapters[name].probe, role, DRY_RUN_SIZE, taps)
            probe[name] = run()
            source = self._copies.get(name)
            if source is not None and self.data_preprocessor.shared(name, source):
                paths = shared_paths(role, run, self._adapters[name].paths(role, taps))
                self._prefixes[name] = Prefix(source, (self.roles[source], role), paths, self._parts[name])
            if name in self.trainable:
                set_mode(role, self._parts[name], True)
        for name, distiller in self.distillers.items():
            found = distiller.bind(probe, self.trainable)
            if found:
                self.connectors[name] = nn.ModuleDict({key: module for key, (_, module) in found.items()})
            self._connector_owner.update({(name, key): learner for key, (learner, _) in found.items()})

    @staticmethod
    def _wanted(distillers: Any) -> dict[str, list[str]]:
        wanted: dict[str, set[str]] = {}
        for distiller in distillers:
            for role, taps in distiller.taps().items():
                wanted.setdefault(role, set()).update(taps)
        return {role: sorted(taps) for role, taps in wanted.items()}

    def _run_roles(
        self, inputs: dict[str, Tensor], data_samples: dict[str, Any], active: dict[str, Distiller], iteration: int
    ) -> dict[str, RoleOutput]:
        wanted = self._wanted(active.values())
        outputs, computed = {}, {}
        # the frozen ones first: a bridge goes on from what they have computed
        for name in [*self.frozen, *self.trainable]:
            index, role, taps = list(self.roles).index(name), self.roles[name], wanted.get(name, [])
            if name in self.trainable:
                prefix = self._prefixes[name].given(computed) if name in self._prefixes else {}
                with role_stream(index, iteration), replayed(role, prefix, self._teacher_dtype and torch.float32):
                    outputs[name] = self._adapters[name].loss(role, inputs[name], data_samples[name], taps)
            elif taps:
                with (
                    lowered(self._teacher_dtype, inputs[name].device),
                    recorded(role, fed_from(self._prefixes, name)) as computed[name],
                ):
                    found = self._adapters[name].features(role, inputs[name], taps, data_samples[name])
                outputs[name] = scoring_lowered(found, self._teacher_dtype, inputs[name].device)
        return outputs

    def _idle_connectors(self, active: dict[str, Distiller]) -> dict[str, Tensor]:
        """DDP waits for a gradient of every parameter: give those of a stopped distiller a zero."""
        stopped = [part for name, part in self.connectors.items() if name not in active]
        idle = [p.sum() for part in stopped for p in part.parameters() if p.requires_grad]
        return {'idle_loss': 0.0 * torch.stack(idle).sum()} if idle else {}

    def _stop_if_not_finite(self, total: Tensor, log_vars: dict[str, Tensor]) -> None:
        # `total` alone is looked at in a good step: one number to wait for on a GPU
        bad = (~torch.isfinite(total)).float()
        if get_world_size() > 1:  # all ranks stop together, or the others would wait for this one's gradients for ever
            all_reduce(bad, op='max')
        if not bad:
            return
        names = [k for k, v in log_vars.items() if k != 'loss' and 'loss' in k and not torch.isfinite(v).all()]
        if self.before_abort is not None:
            self.before_abort()
        found = ', '.join(f'role {n.partition(".")[0]!r}: {n.partition(".")[2]}' for n in names) or 'on another rank'
        raise NonFiniteLossError(
            f'non-finite loss at iteration {current_iteration() + 1} ({found}). Lower the learning rate or the '
            'weight, clip gradients, or look at the data of this iteration.'
        )
