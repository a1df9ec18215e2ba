"""Validation by role."""

from __future__ import annotations

import copy
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner, ValLoop
from torch.utils.data import DataLoader

from mmadm.registry import LOOPS
from mmadm.utils.errors import ConfigError
from mmadm.utils.unwrap import unwrapped

#: Arguments by which metrics name the files that they write
_FOLDERS = ('output_dir',)
_FILES = ('outfile_prefix', 'outfile_path', 'out_file_path')


@LOOPS.register_module()
class RoleValLoop(ValLoop):
    """Scores roles of an ``mmadm.Distillation``; metrics are named ``<role>/<metric>``, such as ``student/mIoU``.

    The data are read once for all roles, and hooks see each batch once, with what the deploy role makes of it. Pictures
    are painted of every role, as ``<role>_<stock name>``; what metrics of several roles write goes to a folder
    ``<role>`` where it would go for one.

    Args:
        runner: The runner.
        dataloader: As for ``ValLoop``.
        evaluator: As for ``ValLoop``; each role has its own.
        fp16: As for ``ValLoop``.
        role_val: Whether to score every trainable role, not only the deploy role.

    Raises:
        ConfigError: If the model has no roles, or if ready-made metrics of several roles would write the same files.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader[Any] | dict[str, Any],
        evaluator: Evaluator | dict[str, Any] | list[Any],
        fp16: bool = False,
        role_val: bool = False,
    ) -> None:
        self._model = unwrapped(runner.model)
        if not hasattr(self._model, 'predicting'):
            raise ConfigError(
                f'val_cfg.type: mmadm.RoleValLoop scores roles, but {type(self._model).__name__} has none; use ValLoop'
            )
        roles = self._model.trainable if role_val else (self._model.deploy,)
        evaluators = {role: _evaluator_of(role, evaluator, runner, len(roles)) for role in roles}
        self._main = self._model.deploy if self._model.deploy in roles else roles[0]
        super().__init__(runner, dataloader, evaluators[self._main], fp16)
        self._loops = {
            role: ValLoop(_SilentRunner(runner), self.dataloader, own, fp16) for role, own in evaluators.items()
        }

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that are scored."""
        return tuple(self._loops)

    def run(self) -> dict[str, float]:
        """Validate.

        Returns:
            The metrics of all roles.
        """
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        for loop in self._loops.values():
            loop.val_loss.clear()
        for idx, data_batch in enumerate(self.dataloader):
            self.run_iter(idx, data_batch)
        metrics = {}
        for role, loop in self._loops.items():
            self.runner.logger.info(f'scores of role {role!r}:')
            scores = {**loop.evaluator.evaluate(len(self.dataloader.dataset)), **_averaged(loop.val_loss)}
            metrics.update({f'{role}/{name}': value for name, value in scores.items()})
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics

    def run_iter(self, idx: int, data_batch: Sequence[dict[str, Any]]) -> None:
        """Predict and score a batch by every role.

        Args:
            idx: Index of the batch.
            data_batch: Batch from the data loader.
        """
        self.runner.call_hook('before_val_iter', batch_idx=idx, data_batch=data_batch)
        told, former = {}, self._model.predicting
        try:
            for role, loop in self._loops.items():
                self._model.predicting = role
                # stock models write their predictions into the data samples, so each role has samples of its own
                loop.run_iter(idx, data_batch if len(self._loops) == 1 else copy.deepcopy(data_batch))
                told[role] = loop.runner.told
        finally:
            self._model.predicting = former
        for hook in self.runner.hooks:
            if hasattr(hook, '_visualizer'):  # every toolbox's hook for pictures has it
                for role, arguments in told.items():
                    _painter(hook, role).after_val_iter(self.runner, **arguments)
            elif hasattr(hook, 'after_val_iter'):
                hook.after_val_iter(self.runner, **told[self._main])


class _SilentRunner:
    """The runner of one role's stock loop: hooks are not called, and what the last ones would be told is kept."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.told: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def call_hook(self, fn_name: str, **arguments: Any) -> None:
        """Keep the arguments."""
        self.told = arguments


class _RoleVisualizer:
    """A visualizer, with the role in front of the names of its pictures."""

    def __init__(self, visualizer: Any, role: str) -> None:
        self._visualizer, self._role = visualizer, role

    def __getattr__(self, name: str) -> Any:
        return getattr(self._visualizer, name)

    def add_datasample(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Paint and write one prediction."""
        self._visualizer.add_datasample(f'{self._role}_{name}', *args, **kwargs)

    def add_image(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Write one picture."""
        self._visualizer.add_image(f'{self._role}_{name}', *args, **kwargs)


def _painter(hook: Any, role: str) -> Any:
    """A copy of a hook for pictures that names them for a role."""
    painter = copy.copy(hook)
    painter._visualizer = _RoleVisualizer(hook._visualizer, role)
    return painter


def _evaluator_of(role: str, evaluator: Any, runner: Runner, number: int) -> Evaluator:
    """A role's own evaluator; that of one of several roles writes into folders of the role."""
    if isinstance(evaluator, Evaluator):
        for metric in evaluator.metrics if number > 1 else ():
            for key in (*_FOLDERS, *_FILES):
                if getattr(metric, key, None):
                    raise ConfigError(
                        f'val_evaluator: {type(metric).__name__}.{key}: several roles would write the same files; give '
                        'the config of the metric, not the metric itself'
                    )
        return copy.deepcopy(evaluator)
    cfg = copy.deepcopy(evaluator)
    for metric in (cfg if isinstance(cfg, Sequence) else [cfg]) if number > 1 else ():
        if isinstance(metric, MutableMapping):
            for key in _FOLDERS:
                if metric.get(key):
                    metric[key] = str(Path(metric[key], role))
            for key in _FILES:
                if metric.get(key):
                    path = Path(metric[key])
                    (path.parent / role).mkdir(parents=True, exist_ok=True)
                    metric[key] = str(path.parent / role / path.name)
    return runner.build_evaluator(cfg)


def _averaged(losses: dict[str, HistoryBuffer]) -> dict[str, float]:
    """Losses of validation as stock reports them, if the network gives any."""
    means = {name: float(values.mean()) for name, values in losses.items()}
    return {**means, 'val_loss': sum(v for k, v in means.items() if 'loss' in k)} if means else {}
