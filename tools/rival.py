"""mmrazor's training step, made in a process and an environment of its own whenever this one asks for it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmrazor_pair import Pair, channels_last_hooks, find_levels, mmrazor_model, mmrazor_weights
from torch import nn

from mmadm.utils.cost import WHOLE, Ratio, median_ratio
from mmadm.utils.errors import ConfigError
from mmadm.utils.export import role_config

SCRIPT = Path(__file__).with_name('against_mmrazor.py')


class Rival:
    """The process; a context manager that ends it.

    Args:
        pair: What both train.
        python: Interpreter that can import mmrazor.

    Attributes:
        row: What tables call its step.

    Raises:
        ConfigError: If there is no such program, or mmrazor cannot be imported there.
    """

    def __init__(self, pair: Pair, python: str) -> None:
        self._pair = pair
        self._folder = TemporaryDirectory()
        self._errors = Path(self._folder.name) / 'stderr'
        try:
            with self._errors.open('wb') as errors:
                self._process = subprocess.Popen(
                    [python, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
                )
        except OSError as error:
            raise ConfigError(f'--against-python={python}: {error.strerror}; give the path of an interpreter') from None
        hello = self._answer()
        if 'missing' in hello:
            self.__exit__()
            raise ConfigError(
                f'--against mmrazor: {python} cannot import it ({hello["missing"]}). Install it there: '
                f'{python} -m pip install mmrazor==1.0.0 joblib; or name another interpreter by --against-python'
            )
        self.row = f'step of mmrazor {hello["version"]}'

    def __enter__(self) -> Rival:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def load(self, cfg: Config, model: nn.Module, batches: Sequence[dict[str, Any]]) -> tuple[float, float]:
        """Build the same model there, with the same weights, batches, number of threads and memory format.

        Args:
            cfg: Config of the whole model.
            model: The whole model.
            batches: Collated batches.

        Returns:
            The distillation loss of the first batch, here and there.

        Raises:
            ConfigError: If mmrazor cannot read or compare the taps.
        """
        sources, levels = find_levels(self._pair, model, batches[0])
        job = dict(
            model=mmrazor_model(self._pair, sources, levels),
            weights=mmrazor_weights(self._pair, model, len(levels)),
            batches=batches,
            optim_wrapper=role_config(cfg, self._pair.student).optim_wrapper.to_dict(),
            default_scope=cfg.get('default_scope', 'mmengine'),
            channels_last=self._channels_last(cfg),
            threads=torch.get_num_threads(),
            cudnn_benchmark=torch.backends.cudnn.benchmark,
        )
        path = Path(self._folder.name) / 'job.pth'
        torch.save(job, path)
        here = distillation_loss(model, batches[0], f'{self._pair.student}.loss_transfer')
        return here, self._ask('load', path)

    def timed_step(self, number: int) -> dict[str, float]:
        """Make the step of a round; milliseconds by row."""
        return {self.row: self._ask('step', number)}

    def peak_bytes(self) -> int:
        """Peak memory of a step, measured as for ours."""
        return self._ask('peak', 0)

    def ratios(self, times: Mapping[str, Sequence[float]], memory: Mapping[str, float]) -> list[Ratio]:
        """How many times as much as our whole step its step needs."""
        return [
            Ratio(f'{self.row} / {WHOLE}', median_ratio(times[self.row], [times[WHOLE]])),
            Ratio(f'peak memory of {self.row} / {WHOLE}', memory[self.row] / memory[WHOLE]),
        ]

    def _channels_last(self, cfg: Config) -> list[str]:
        """Parts of mmrazor's model that have the memory format that a hook gives to ours; '' is all of it."""
        names = {self._pair.student: 'architecture', self._pair.teacher: 'teacher'}
        chosen = [hook.get('roles') for hook in channels_last_hooks(cfg)]
        return [path for roles in chosen for path in ([''] if roles is None else [names[role] for role in roles])]

    def _ask(self, command: str, argument: object) -> Any:
        print(command, argument, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            said = self._errors.read_text(encoding='utf-8', errors='replace').strip().splitlines()
            raise ConfigError(f'--against mmrazor: its process ended: {said[-1] if said else "without a word"}')
        return json.loads(line)


def distillation_loss(model: nn.Module, batch: dict[str, Any], prefix: str) -> float:
    """Sum of the losses whose names have a prefix, without dropout: the libraries draw in another order.

    Args:
        model: Ours or mmrazor's; is left in training mode.
        batch: A collated batch.
        prefix: Of the losses.
    """
    for module in model.modules():
        if 'Drop' in type(module).__name__:
            module.eval()
    with torch.no_grad():
        losses = model(**model.data_preprocessor(deepcopy(batch), True), mode='loss')
    model.train()
    return float(sum(value for key, value in losses.items() if key.startswith(prefix)))
