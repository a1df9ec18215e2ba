"""Validation by role."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, ValLoop
from torch.utils.data import DataLoader

from mmadm.registry import LOOPS
from mmadm.utils.errors import ConfigError
from mmadm.utils.unwrap import unwrapped


@LOOPS.register_module()
class RoleValLoop(ValLoop):
    """Scores roles of an ``mmadm.Distillation``; metrics are named ``<role>/<metric>``, such as ``student/mIoU``.

    The data are read once for all roles.

    Args:
        runner: The runner.
        dataloader: As for ``ValLoop``.
        evaluator: As for ``ValLoop``; each role has a copy.
        fp16: As for ``ValLoop``.
        role_val: Whether to score every trainable role, not only the deploy role.

    Raises:
        ConfigError: If the model has no roles.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        evaluator: Evaluator | dict[str, Any] | list[Any],
        fp16: bool = False,
        role_val: bool = False,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self._model = unwrapped(runner.model)
        if not hasattr(self._model, 'predicting'):
            raise ConfigError(
                f'val_cfg.type: mmadm.RoleValLoop scores roles, but {type(self._model).__name__} has none; use ValLoop'
            )
        roles = self._model.trainable if role_val else (self._model.deploy,)
        self._evaluators = {role: deepcopy(self.evaluator) for role in roles}

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that are scored."""
        return tuple(self._evaluators)

    def run(self) -> dict[str, float]:
        """Validate.

        Returns:
            The metrics of all roles.
        """
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        for idx, data_batch in enumerate(self.dataloader):
            self.run_iter(idx, data_batch)
        metrics = {}
        for role, evaluator in self._evaluators.items():
            self.runner.logger.info(f'scores of role {role!r}:')
            scores = evaluator.evaluate(len(self.dataloader.dataset))
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
        former = self._model.predicting
        try:
            for role, evaluator in self._evaluators.items():
                self._model.predicting = role
                self.evaluator = evaluator
                # stock models write their predictions into the data samples, so each role has samples of its own
                super().run_iter(idx, data_batch if len(self._evaluators) == 1 else deepcopy(data_batch))
        finally:
            self._model.predicting = former
