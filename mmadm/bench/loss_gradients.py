"""How hard each loss of a role pulls at the role's weights, step by step: it shows which one breaks a training.

``python -m mmadm.bench.loss_gradients CONFIG --role teacher --steps 160 --every 10`` trains by the config, without
validation and without keeping anything, and prints each loss and the norm of its gradient.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Mapping, Sequence

import torch
from mmengine.config import DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mmadm.structures import is_loss
from mmadm.utils.cli import one_line_errors
from mmadm.utils.config import read_config
from mmadm.utils.errors import ConfigError, near_matches
from mmadm.utils.unwrap import unwrapped

Norms = dict[str, tuple[float, float]]


def gradient_norms(losses: Mapping[str, Tensor], weights: Iterable[Tensor]) -> Norms:
    """Each loss and the norm of its gradient with respect to all weights together; the graph is kept.

    Args:
        losses: Scalars by name; those without a graph are left out.
        weights: What the losses depend on, or some of them.
    """
    weights, found = list(weights), {}
    for name, loss in losses.items():
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
            squares = [gradient.square().sum() for gradient in gradients if gradient is not None]
            found[name] = loss.item(), float(sum(squares)) ** 0.5
    return found


class LossGradients(Hook):
    """Looks at the losses of a role before the backward pass of every so many steps.

    Args:
        role: Whose losses and weights.
        every: Steps between two looks.

    Attributes:
        found: Norms by step, from 1.
    """

    priority = 'LOWEST'  # behind the hook that looks whether losses are finite

    def __init__(self, role: str, every: int) -> None:
        self.role, self.every = role, every
        self.found: dict[int, Norms] = {}

    def before_train(self, runner: Runner) -> None:
        """Look at the losses, after whoever looks at them already; ConfigError if there is no such role that learns."""
        model = unwrapped(runner.model)
        learning = getattr(model, 'trainable', ())
        if self.role not in learning:
            raise ConfigError(f'--role {self.role}: no role {self.role!r} learns; {near_matches(self.role, learning)}')
        former, weights = model.check_losses, [w for w in model.roles[self.role].parameters() if w.requires_grad]

        def look(total: Tensor, logged: dict[str, Tensor]) -> None:
            """Called with all losses of a step."""
            if former is not None:
                former(total, logged)
            if (runner.iter + 1) % self.every == 0:
                mine = {key: value for key, value in logged.items() if key.startswith(f'{self.role}.') and is_loss(key)}
                self.found[runner.iter + 1] = gradient_norms(mine, weights)

        model.check_losses = look


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of a distillation')
    parser.add_argument('--role', default='teacher')
    parser.add_argument('--steps', type=int, default=160)
    parser.add_argument('--every', type=int, default=10)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE')
    args = parser.parse_args(arguments)
    cfg = read_config(args.config)
    cfg.merge_from_dict(args.cfg_options)
    cfg.train_cfg = dict(by_epoch=False, max_iters=args.steps)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = (
        None
    )
    cfg.default_hooks.checkpoint = None
    hook = LossGradients(args.role, args.every)
    with one_line_errors(2), tempfile.TemporaryDirectory() as cfg.work_dir:
        runner = Runner.from_cfg(cfg)
        runner.register_hook(hook)
        runner.train()
    console = Console()
    names = list(dict.fromkeys(name for norms in hook.found.values() for name in norms))
    table = Table('step', *names, title='loss: norm of its gradient')
    for step, norms in hook.found.items():
        table.add_row(str(step), *('{:.3f}: {:.3f}'.format(*norms[name]) if name in norms else '' for name in names))
    console.print(table)


if __name__ == '__main__':
    main()
