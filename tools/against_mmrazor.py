"""Makes training steps of mmrazor on request: the other side of ``rival.py``, run with an interpreter that has it.

Reads lines ``load FILE``, ``step NUMBER`` and ``peak NUMBER``, answers each with one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

# whatever the libraries print must not come between the answers
ANSWERS = os.fdopen(os.dup(1), 'w', encoding='utf-8')
os.dup2(2, 1)
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]


class Absent(ModuleType):
    """Stands in for a package that cannot be imported; every name in it is an empty class."""

    __all__ = ()
    __path__ = ()

    def __getattr__(self, name: str) -> type:
        """Make up what somebody imports from here."""
        if name.startswith('__'):
            raise AttributeError(name)
        return type(name, (), {})


def import_mmrazor() -> dict[str, str]:
    """Import mmrazor without its quantisation; returns its version, or why it cannot be imported.

    mmrazor 1.0.0 imports all of its parts together. Its settings of quantisation use modules that newer versions of
    torch do not have (``torch.nn.quantized._reference``), and distillation uses no quantisation. So in this process,
    which does nothing else, an empty package stands in its place; nothing of mmrazor or torch is changed.
    """
    sys.modules['mmrazor.structures.quantization'] = Absent('mmrazor.structures.quantization')
    try:
        import mmrazor.models
    except ImportError as error:
        return {'missing': str(error)}
    return {'version': mmrazor.__version__}


class Server:
    """Holds the model between requests."""

    def load(self, path: str) -> float:
        """Build the model of a job file; returns the distillation loss of its first batch."""
        import cost
        import learners
        import torch
        from mmengine.config import Config, ConfigDict
        from mmengine.device import get_device
        from mmengine.registry import init_default_scope
        from rival import distillation_loss

        job: dict[str, Any] = torch.load(path, weights_only=False)
        torch.set_num_threads(job['threads'])
        torch.backends.cudnn.benchmark = job['cudnn_benchmark']
        init_default_scope(job['default_scope'])
        self._device = torch.device(get_device())
        cfg = Config(dict(optim_wrapper=job['optim_wrapper']))
        self._learner = learners.Learner(*learners.built(cfg, ConfigDict(job['model']), self._device))
        model = self._learner.model
        model.load_state_dict(job['weights'])
        for part in job['channels_last']:
            model.get_submodule(part).to(memory_format=torch.channels_last)
        self._prepare = cost.plain_step(self._learner, job['batches'])
        return distillation_loss(model, job['batches'][0], 'distill.')

    def step(self, number: str) -> float:
        """Make one step; returns milliseconds."""
        from mmadm.utils.cost import milliseconds

        return milliseconds(self._prepare(int(number)), self._device)

    def peak(self, number: str) -> int:
        """Make one step; returns the peak memory in bytes."""
        from mmadm.utils.cost import held_by, peak_bytes

        held = held_by(self._learner.model, self._learner.optimizers)
        return peak_bytes(self._prepare(int(number)), self._device, held)


def main() -> None:
    """Serve until there is nothing more to read."""
    print(json.dumps(import_mmrazor()), file=ANSWERS, flush=True)
    server = Server()
    commands = {'load': server.load, 'step': server.step, 'peak': server.peak}
    for line in sys.stdin:
        command, _, argument = line.rstrip('\n').partition(' ')
        print(json.dumps(commands[command](argument)), file=ANSWERS, flush=True)


if __name__ == '__main__':
    main()
