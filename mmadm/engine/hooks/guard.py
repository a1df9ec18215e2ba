"""Stops a training that cannot work before it starts, and keeps the last good state of one that breaks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmadm.engine.atomic import BACKEND_ARGS
from mmadm.engine.generators import KEY, make_record, snapshot
from mmadm.engine.preflight import check_training
from mmadm.registry import HOOKS
from mmadm.utils.checkpoint import write_checkpoint
from mmadm.utils.cli import require_writable
from mmadm.utils.errors import ConfigError
from mmadm.utils.export import extract_role, role_file
from mmadm.utils.unwrap import unwrapped


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Guards the training of an ``mmadm.Distillation``.

    Before training it checks that optimiser, hooks and watched metrics fit several roles, that the work dir can be
    written to and that the labels fit the roles. When a loss is not
    finite, it saves the state from before that iteration as ``last_good_iter_N.pth``, which can be resumed from, with
    the deploy role's file beside it; then the model raises its error.

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
        self._saving: tuple[Path, dict[str, Any]] | None = None

    def before_run(self, runner: Runner) -> None:
        """Check settings before any hook looks at the training.

        Raises:
            ConfigError: If one of them cannot work with the roles.
        """
        model = unwrapped(runner.model)
        if hasattr(model, 'roles'):
            check_training(runner, model)

    def before_train(self, runner: Runner) -> None:
        """Check, and ask the model to call back before it gives up.

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
        if not hasattr(model, 'before_abort'):
            return
        self._buffers = list(model.buffers())
        self._copies = [buffer.clone() for buffer in self._buffers]

        # a plain function, because a deepcopy of the model (EMA) must not copy this hook and the runner with it
        def abort() -> None:
            """Save what the last good iteration left."""
            self._save_last_good(runner)

        model.before_abort = abort

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Remember what the forward pass changes: BatchNorm statistics and other buffers, and random generators."""
        if self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._copies, self._buffers)
        self._generators = snapshot()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Complete the checkpoint that this hook itself saves."""
        if self._saving is not None:
            path, checkpoint[KEY] = self._saving
            deploy = unwrapped(runner.model).deploy
            write_checkpoint(extract_role(checkpoint, deploy), role_file(path, deploy))

    def after_train(self, runner: Runner) -> None:
        """Let go of the model."""
        model = unwrapped(runner.model)
        if hasattr(model, 'before_abort'):
            model.before_abort = None

    def _save_last_good(self, runner: Runner) -> None:
        """Save the state from before this iteration; parameters and optimisers still have it."""
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
