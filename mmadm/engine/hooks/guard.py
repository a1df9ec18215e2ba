"""Stops a training that cannot work before it starts, and keeps the last good state of one that breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn

from mmadm.engine.atomic import BACKEND_ARGS
from mmadm.engine.generators import KEY, make_record, snapshot
from mmadm.engine.preflight import check_training
from mmadm.registry import HOOKS
from mmadm.structures import is_loss
from mmadm.utils.checkpoint import write_checkpoint
from mmadm.utils.cli import require_writable
from mmadm.utils.data_samples import image_files
from mmadm.utils.errors import ConfigError, NonFiniteLossError
from mmadm.utils.export import extract_role, role_file
from mmadm.utils.unwrap import unwrapped


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Guards the training of an ``mmadm.Distillation``.

    Before training it checks that optimiser, hooks and watched metrics fit several roles, that the work dir can be
    written to and that the labels fit the roles. A loss that is not finite stops the training on every rank before any
    optimiser has stepped, and the state from before that iteration is saved as ``last_good_iter_N.pth``, which can be
    resumed from, with the deploy role's file beside it; unless weights were broken already, by gradients that were not
    finite while the loss was.

    On a GPU the host looks at the loss when the backward pass has been queued: the forward pass is over by then, and
    the device has work to do while the host waits.

    Args:
        check_labels: Whether to look at the labels.
    """

    #: After every other hook: it shall see the state with which the forward pass starts
    priority = 'LOWEST'

    def __init__(self, check_labels: bool = True) -> None:
        self._check_labels = check_labels
        self._buffers: list[Tensor] = []
        self._copies: list[Tensor] = []
        self._generators: dict[str, Any] = {}
        self._batch: Any = None
        self._saving: tuple[Path, dict[str, Any]] | None = None
        self._undecided: Callable[[], None] | None = None
        self._handles: list[Any] = []

    def before_run(self, runner: Runner) -> None:
        """Check settings before any hook looks at the training.

        Raises:
            ConfigError: If one of them cannot work with the roles.
        """
        model = unwrapped(runner.model)
        if hasattr(model, 'owners'):
            check_training(runner, model)

    def before_train(self, runner: Runner) -> None:
        """Check, and ask the model to show its losses before the backward pass.

        Raises:
            ConfigError: If the work dir is not writable, a label id is out of range, or DDP would wait for the
                gradients of a role that pauses.
        """
        require_writable(runner.work_dir)
        model = unwrapped(runner.model)
        if getattr(model, 'may_pause', None) and not getattr(runner.model, 'find_unused_parameters', True):
            raise ConfigError(
                f'find_unused_parameters=False: roles {sorted(model.may_pause)} may pause and then get no gradient, '
                'for which DDP would wait; set find_unused_parameters=True'
            )
        if self._check_labels and hasattr(model, 'check_data'):
            _checked_by_the_main_process(partial(model.check_data, runner.train_dataloader.dataset))
        if not hasattr(model, 'check_losses'):
            return
        model.progress.follow(runner.message_hub)
        self._buffers = list(model.buffers())
        self._copies = [buffer.clone() for buffer in self._buffers]

        # plain functions, because a deepcopy of the model (EMA) must not copy this hook and the runner with it
        def look(total: Tensor, log_vars: dict[str, Tensor]) -> None:
            """Take note of the losses of an iteration."""
            self._look(runner, total, log_vars)

        def decide(*_: Any) -> None:
            """Stop before an optimiser steps."""
            self._decide()

        model.check_losses = look
        wrapper = runner.optim_wrapper
        members = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        self._handles = [member.optimizer.register_step_pre_hook(decide) for member in members]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Look at the loss of an iteration in which no optimiser stepped."""
        self._decide()
        self._batch = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Remember what the forward pass changes: BatchNorm statistics and other buffers, and random generators."""
        if self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._copies, self._buffers)
        self._generators = snapshot()
        self._batch = data_batch

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Complete the checkpoint that this hook itself saves."""
        if self._saving is not None:
            path, checkpoint[KEY] = self._saving
            deploy = unwrapped(runner.model).deploy
            write_checkpoint(extract_role(checkpoint, deploy), role_file(path, deploy))

    def after_train(self, runner: Runner) -> None:
        """Let go of the model."""
        model = unwrapped(runner.model)
        if hasattr(model, 'check_losses'):
            model.check_losses = None
        for handle in self._handles:
            handle.remove()

    def _look(self, runner: Runner, total: Tensor, log_vars: dict[str, Tensor]) -> None:
        self._decide()
        bad = (~torch.isfinite(total)).float()  # one number of all losses: there is one to wait for
        if get_world_size() > 1:  # all ranks stop together, or the others would wait for this one's gradients for ever
            all_reduce(bad, op='max')
        arrived = None
        if bad.is_cuda:
            copy = torch.empty_like(bad, device='cpu', pin_memory=True)
            bad, arrived = copy.copy_(bad, non_blocking=True), torch.cuda.Event()
            arrived.record()

        def decide() -> None:
            """Wait for the number, and stop if it is bad."""
            if arrived is not None:
                arrived.synchronize()
            if bad:
                self._stop(runner, log_vars)

        self._undecided = decide
        if arrived is None:
            self._decide()

    def _decide(self) -> None:
        undecided, self._undecided = self._undecided, None
        if undecided is not None:
            undecided()

    def _stop(self, runner: Runner, log_vars: dict[str, Tensor]) -> None:
        mine = [k for k, v in log_vars.items() if k != 'loss' and is_loss(k) and not torch.isfinite(v).all()]
        where = ' on rank {}' if get_world_size() > 1 else ''
        told = all_gather_object((mine, image_files(self._batch) if mine else []))
        found = [
            f'role {role!r}: {losses}{where.format(rank)}'
            for rank, (names, _) in enumerate(told)
            for role, losses in _by_role(names).items()
        ]
        images = ', '.join(file for _, files in told for file in files) or 'unnamed'
        self._save_last_good(runner)
        raise NonFiniteLossError(
            f'non-finite loss at iteration {runner.iter + 1} ({"; ".join(found) or "their sum"}). Lower the learning '
            f'rate or the weight, clip gradients, or look at the data of this iteration: {images}.'
        )

    def _save_last_good(self, runner: Runner) -> None:
        """Save the state from before this iteration, if it is good; parameters and optimisers still have it."""
        model = unwrapped(runner.model)
        broken = [role for role in model.owners if not _is_finite(model.owned_by(role))]
        if broken:
            runner.logger.error(
                f'No last good state is saved: the weights of {broken} were not finite before this iteration, as '
                'gradients of an earlier one were not. Go on from an older checkpoint.'
            )
            return
        with torch.no_grad():
            torch._foreach_copy_(self._buffers, self._copies)
        path = Path(runner.work_dir) / f'last_good_iter_{runner.iter}.pth'
        self._saving = path, make_record(self._generators, batch_drawn=True)
        try:
            runner.save_checkpoint(
                str(path.parent),
                path.name,
                meta={'epoch': runner.epoch, 'iter': runner.iter},
                save_param_scheduler=runner.param_schedulers is not None,
                backend_args=BACKEND_ARGS,
            )
        except OSError as error:  # a full disk must not hide which loss was not finite
            runner.logger.error(f'The last good state could not be saved to {path}: {error}')
        else:
            runner.logger.error(f'The state before this iteration is in {path}; --resume {path} goes on from it.')
        self._saving = None


def _by_role(names: Iterable[str]) -> dict[str, str]:
    """Losses of each role in one text; its sum of them only where it is the only one."""
    found: dict[str, list[str]] = {}
    for role, _, loss in (name.partition('.') for name in names):
        found.setdefault(role, []).append(loss)
    return {role: ', '.join([loss for loss in losses if loss != 'loss'] or losses) for role, losses in found.items()}


def _is_finite(module: nn.Module) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in module.parameters())


def _checked_by_the_main_process(check: Callable[[], None]) -> None:
    """Check once for all processes; an error stops all of them."""
    error: Exception | None = None
    if is_main_process():
        try:
            check()
        except Exception as caught:  # the others wait to hear of it
            error = caught
    told = [error and str(error)]
    broadcast_object_list(told)
    if told[0] is not None:
        raise error or ConfigError(told[0])
