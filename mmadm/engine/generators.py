"""Random generators across a resume: a resumed run draws the numbers that an uninterrupted one would have drawn.

A stock checkpoint has no generator states, and three things about mmengine's loops make it wrong to simply put saved
states back when training starts again:

- ``IterBasedTrainLoop`` first draws all batches again that were seen, and the next one. In the main process
  (``num_workers=0``) this moves NumPy's and Python's generators to where they belong, so the saved states would be
  wrong; with workers it does not, and models or preprocessors may have drawn from them, so the saved states are right.
  ``EpochBasedTrainLoop`` starts at the next epoch without drawing anything again. The ``IterBasedTrainLoop`` of the
  onedl forks only skips the indices of the batches that were seen, by which no generator moves; so they are drawn here.
- Validation runs after the checkpoint of the same iteration was written, and the resumed run does not repeat it.
  Opening the validation loader draws one number from torch's generator: each time or, with persistent workers, once.
- A new pass over a finite training loader draws one number too, before the first hook of the iteration is called.
"""

from __future__ import annotations

import random
import sys
from bisect import bisect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.runner import IterBasedTrainLoop, Runner

#: Entry of a checkpoint
KEY = 'generators'
#: Entry of the message hub, which mmengine saves and restores by itself
_OPENED = 'opened_val_loader'


def snapshot() -> dict[str, Any]:
    """State of this process's generators, in types that ``torch.load`` accepts."""
    drawn: Any = np.random.get_state()
    name, keys, *rest = drawn
    state = {'torch': torch.get_rng_state(), 'numpy': (name, keys.tolist(), *rest), 'python': random.getstate()}
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def restore(state: dict[str, Any], host: bool = True) -> None:
    """Put a snapshot back.

    Args:
        state: From :func:`snapshot`.
        host: Whether to set NumPy's and Python's generators too.
    """
    torch.set_rng_state(state['torch'].cpu())  # a resume maps every tensor of a checkpoint to the GPU
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())
    if host:
        np.random.set_state(state['numpy'])
        random.setstate(state['python'])


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run networks beside a training: without gradient, and generators stay as they were.

    What was compiled for the sizes of training images is not compiled again for others.
    """
    # only torch.compile imports this; it takes seconds
    compiled = 'torch._dynamo' in sys.modules
    before = snapshot()
    try:
        with torch.no_grad(), torch.compiler.set_stance('force_eager') if compiled else nullcontext():
            yield
    finally:
        restore(before)


def make_record(state: dict[str, Any], batch_drawn: bool) -> dict[str, Any]:
    """What a checkpoint keeps; to be called on every rank.

    Args:
        state: This rank's snapshot.
        batch_drawn: Whether it was taken after the next batch was drawn, not at the end of an iteration.

    Returns:
        The snapshots of all ranks, and ``batch_drawn``.
    """
    return {'ranks': all_gather_object(state), 'batch_drawn': batch_drawn}


class ResumeGenerators:
    """Keeps a training's generators on the course of an uninterrupted run.

    Its methods are to be called from the hook methods that they are named after.
    """

    def __init__(self) -> None:
        self._before_val: dict[str, Any] | None = None
        self._loaded: tuple[int, Any] | None = None

    def record(self) -> dict[str, Any]:
        """The checkpoint entry for the end of this iteration, or epoch; to be called on every rank."""
        # CheckpointHook writes the newest checkpoint a second time during validation, when there is a new best score
        return make_record(self._before_val or snapshot(), batch_drawn=False)

    def before_val(self) -> None:
        """Remember where training stands."""
        self._before_val = snapshot()

    def after_val(self, runner: Runner) -> None:
        """Go back to where training stood, and on by what validation draws in an uninterrupted run."""
        if self._before_val is not None:
            restore(self._before_val)
            self._before_val = None
            _pass_validation(runner)

    def after_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the entry of a checkpoint."""
        meta = checkpoint.get('meta')  # of a file from elsewhere, whose weights alone are taken, anything
        self._loaded = (meta.get('iter', -1) if isinstance(meta, dict) else -1, checkpoint.get(KEY))

    def before_train(self, runner: Runner) -> None:
        """Forget the entry of a checkpoint whose weights were taken but which is not resumed, or does not fit."""
        if self._loaded is None:
            return
        iteration, record = self._loaded
        if iteration != runner.iter:
            self._loaded = None
        elif record is None or len(record['ranks']) != get_world_size():
            self._loaded = None
            what = 'has no generator states' if record is None else 'was written by another number of processes'
            runner.logger.warning(f'The checkpoint {what}: this run will draw other random numbers than the former.')

    def before_train_epoch(self, runner: Runner) -> None:
        """Resume an epoch loop, which draws no batch again; see that an iteration loop does."""
        if self._loaded is None:
            return
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            _draw_seen_batches(runner)
        else:
            if runner.train_dataloader.persistent_workers:
                runner.logger.warning(
                    'Persistent workers carry their generators from epoch to epoch, and an epoch loop does not repeat '
                    'former epochs: augmentations will differ from those of an uninterrupted run.'
                )
            self._resume(runner, host=True)

    def before_train_iter(self, runner: Runner) -> None:
        """Resume an iteration loop, after it has drawn the former batches again and this iteration's batch."""
        if self._loaded is not None:
            self._resume(runner, host=runner.train_dataloader.num_workers > 0)

    def _resume(self, runner: Runner, host: bool) -> None:
        assert self._loaded is not None
        record, self._loaded = self._loaded[1], None
        restore(record['ranks'][get_rank()], host)
        if not record['batch_drawn']:
            if _validation_due(runner):
                _pass_validation(runner)
            if _loader_reopened(runner):
                _draw_seed()


def _draw_seen_batches(runner: Runner) -> None:
    """Draw all batches again that were seen, where mmengine would only skip them and was not told to ignore them."""
    loop = runner.train_loop
    if getattr(loop, 'fast_forward_on_resume', True):
        return
    runner.logger.info(
        f'Drawing the {loop.iter} former batches again, so that augmentations go on as in an uninterrupted run. '
        'What mmengine says next about skipping does not apply.'
    )
    for _ in range(loop.iter):
        next(loop.dataloader_iterator)
    loop.fast_forward_on_resume = True


def _draw_seed() -> None:
    """Draw what ``DataLoader`` draws when it is opened, the seed of its workers."""
    torch.empty((), dtype=torch.int64).random_()


def _pass_validation(runner: Runner) -> None:
    opened = runner.message_hub.runtime_info.get(_OPENED, False)
    if not (opened and runner.val_dataloader.persistent_workers):
        _draw_seed()
    runner.message_hub.update_info(_OPENED, True)


def _validation_due(runner: Runner) -> bool:
    """Whether an uninterrupted run validates between the resumed checkpoint and the next iteration."""
    loop = runner.train_loop
    if runner.val_loop is None:
        return False
    if isinstance(loop, IterBasedTrainLoop):
        done, end = loop.iter, loop.max_iters
    else:
        done, end = loop.epoch, loop.max_epochs
    # not loop.val_interval: the loop brings it up to date only at the end of an iteration
    interval = loop.dynamic_intervals[bisect(loop.dynamic_milestones, done + 1) - 1]
    return done >= loop.val_begin and (done % interval == 0 or done == end)


def _loader_reopened(runner: Runner) -> bool:
    """Whether drawing the batch of this iteration began a new pass over a finite loader."""
    loop = runner.train_loop
    if not isinstance(loop, IterBasedTrainLoop) or loop.dataloader.persistent_workers:
        return False
    passes = loop.dataloader_iterator._epoch
    return passes > 0 and passes * len(loop.dataloader) == loop.iter
