"""What a person sees of a training: a line for each interval of the log, and a bar on a terminal.

mmengine's own log goes on as it is; on a terminal it stays in its file.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from numbers import Real
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mmadm.bench.metrics import role_scores
from mmadm.engine.preflight import check_scheduled_roles
from mmadm.utils.ranks import check_norms_of_ranks
from mmadm.utils.unwrap import unwrapped

#: What mmengine warns of in every run, and nobody can change
_NOISE = re.compile('will be deprecated|is the alias of|The prefix is not set')


class ReadableLogHook(Hook):
    """Tells of each interval in one line: the losses of the roles, the last scores, the time left.

    Args:
        console: A terminal, which gets the lines and a bar; None if there is none, where the lines go to the log.
    """

    #: After the hooks that log and validate
    priority = 'LOWEST'

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        columns = TextColumn('{task.description}'), BarColumn(), TextColumn('{task.fields[told]}')
        self.bar = None if console is None else Progress(*columns, console=console, transient=True)
        self._interval, self._scores = 1, ''
        self._task: Any = None

    def before_train(self, runner: Runner) -> None:
        """Take the interval from mmengine's own log; a guard that is missing here was left out on purpose."""
        self._interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 50)
        model = unwrapped(runner.model)
        if hasattr(model, 'check_losses'):
            model.progress.follow(runner.message_hub)
        if self.bar is not None:
            self._task = self.bar.add_task('training', total=runner.max_iters, completed=runner.iter, told='')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Move the bar; tell of an interval at its end."""
        done, end = runner.iter + 1, runner.max_iters
        # of mmengine's IterTimerHook, which a config may leave out
        seconds = 0 if done == end else runner.message_hub.runtime_info.get('eta')
        left = '' if seconds is None else f'{timedelta(seconds=int(seconds))} left'
        if self.bar is not None:
            told = ', '.join(filter(None, [f'{done}/{end}', left]))
            self.bar.update(self._task, completed=done, description='training', told=told)
        if done % self._interval == 0 or done == end:
            parts = [f'{done}/{end}', f'loss {self._losses(runner)}', self._scores, left]
            self._tell(runner, ' | '.join(filter(None, parts)))

    def before_val(self, runner: Runner) -> None:
        """Say in the bar that it is scoring."""
        if self.bar is not None and self._task is not None:
            self.bar.update(self._task, description='scoring ')

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Tell the main score of every role."""
        scores = role_scores(metrics or {}, stock_role='')
        if not scores:  # of a kind that has no name in our tables: the first number
            numbers = {key: float(value) for key, value in (metrics or {}).items() if isinstance(value, Real)}
            scores = {key: {'': value} for key, value in list(numbers.items())[:1]}
        for metric, by_role in list(scores.items())[:1]:
            self._scores = f'{metric} ' + ', '.join(f'{role} {value:.4g}'.strip() for role, value in by_role.items())
            self._tell(runner, f'scores after {runner.iter}: {self._scores}')

    def _losses(self, runner: Runner) -> str:
        """The mean of each role's total over the interval."""
        scalars = runner.message_hub.log_scalars
        names = {f'{role} ': f'train/{role}.loss' for role in getattr(unwrapped(runner.model), 'trainable', ())}
        names = names or {'': 'train/loss'}
        means = {name: scalars[key].mean(self._interval) for name, key in names.items() if key in scalars}
        return ', '.join(f'{name}{value:.4g}' for name, value in means.items())

    def _tell(self, runner: Runner, line: str) -> None:
        runner.logger.info(line)
        if self._console is not None:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def terminal() -> Console | None:
    """The terminal that this process writes to, if there is one and no other process tells of the training."""
    console = Console()
    return console if console.is_terminal and is_main_process() else None


def build_runner(cfg: Any, console: Console | None) -> Runner:
    """Build a Runner; what mmengine says of it waits, so that an error stands alone. On a terminal its file keeps it.

    Raises:
        ConfigError: If learning rates by role lack a role, which mmengine builds before any hook can look, or if a
            network has norms that its devices cannot do.
    """
    with redirect_stdout(io.StringIO()) as told:
        runner = Runner.from_cfg(cfg)
        check_norms_of_ranks(runner.model)
        check_scheduled_roles(runner.param_schedulers, runner.optim_wrapper, unwrapped(runner.model))
    if console is None:
        print(told.getvalue(), end='')
        for handler in _of_screen(runner):
            handler.stream = sys.stdout
    return runner


def _of_screen(runner: Runner) -> list[logging.StreamHandler[Any]]:
    return [handler for handler in runner.logger.handlers if type(handler) is logging.StreamHandler]


@contextmanager
def watched(runner: Runner, console: Console | None) -> Iterator[None]:
    """Show a training while the block runs.

    Args:
        runner: Its runner.
        console: The terminal, if there is one.
    """
    hook = ReadableLogHook(console)
    runner.register_hook(hook, priority=ReadableLogHook.priority)
    if hook.bar is None or console is None:
        yield
        return
    console.print(f'log: {runner.log_dir}', markup=False, highlight=False, soft_wrap=True)
    handlers = _of_screen(runner)
    former = [(handler, handler.level) for handler in handlers]
    try:
        with hook.bar:
            for handler in handlers:
                handler.setLevel(logging.WARNING)
                handler.addFilter(_is_news)
                handler.stream = sys.stderr  # the bar's own, which keeps what is written apart from it
            yield
    finally:
        for handler, level in former:
            handler.setLevel(level)
            handler.removeFilter(_is_news)
            handler.stream = sys.stdout


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a warning is none of those that mmengine gives in every run."""
    return not _NOISE.search(record.getMessage())
