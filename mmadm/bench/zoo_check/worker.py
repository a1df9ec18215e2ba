"""Check one network after the other in a process of its own, so that neither a crash nor a hang ends the check."""

from __future__ import annotations

import logging
import multiprocessing
import re
import time
import traceback
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope

from mmadm.adapters.blank_image import input_channels
from mmadm.bench.zoo_check.batches import labelled_batch
from mmadm.registry import MODELS
from mmadm.utils.config import role_model_cfg, without_pretrained
from mmadm.utils.errors import CheckpointError, ConfigError

#: What student and teacher share: features by CWD, class scores by KL
LOSSES = {'feats': dict(type='ChannelWiseDivergence', tau=1.0), 'logits': dict(type='KLDivergence', tau=4.0)}
#: Sides of the images of the training step in pixels: the larger one for networks that the smaller one is too small for
SIDES = (128, 512)
#: How long a process may take to start, in seconds
START = 600.0
Result = dict[str, Any]


class Worker:
    """A process that checks configs; a new one is started whenever it has ended.

    Args:
        limit: Seconds for one config.
        steps: Whether a network makes a training step once it is built, which takes most of the time.
    """

    def __init__(self, limit: float, steps: bool = True) -> None:
        self._limit = limit
        self._steps = steps
        self._process: Any = None
        self._pipe: Any = None

    def check(self, config: str) -> Result:
        """Check a config; see :func:`check`. A config that takes too long, or ends the process, has a verdict, too.

        Args:
            config: ``pkg::path``.
        """
        self._start()
        began = time.monotonic()
        self._pipe.send((config, self._steps))
        try:
            if self._pipe.poll(self._limit):
                result: Result = self._pipe.recv()
            else:
                result = _everywhere('slow', f'takes more than {self._limit:.0f} s')
                self.close()
        except (EOFError, ConnectionResetError):
            self._process.join()
            result = _everywhere('error', f'the process ended with code {self._process.exitcode}')
            self.close()
        return {**result, 'seconds': round(time.monotonic() - began, 1)}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        if self._process is not None and self._process.is_alive():
            return
        context = multiprocessing.get_context('spawn')
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(START):
            raise TimeoutError(f'the process that checks networks did not start within {START:.0f} s')
        self._pipe.recv()


def check(config: str, steps: bool = True) -> Result:
    """Build student and teacher of one config, with a loss at each tap, and make a training step.

    Args:
        config: ``pkg::path``.
        steps: Whether to make that step.

    Returns:
        For ``feats``, ``logits`` and ``step`` a dict with ``verdict``: ``built``, ``refused`` (by a sentence of mmadm),
        ``error``, or of a step ``stock`` (the network alone fails on the made-up batch, too) or ``none``; and with
        ``reason``.
    """
    try:
        role = without_pretrained(role_model_cfg(dict(cfg=config)))  # no weights are looked at, so none are loaded
    except Exception as error:
        return {at: _verdict_on(error) for at in (*LOSSES, 'step')}
    scope = role.get('_scope_', config.partition('::')[0])
    with DefaultScope.overwrite_default_scope(scope):
        verdicts, model = _built(role)
        return {**verdicts, 'step': _step(scope, model) if model is not None and steps else _verdict('none')}


def _built(role: dict[str, Any]) -> tuple[Result, Any]:
    """The verdicts on both taps, and a model with as many of them as are built."""
    good = _verdict('built')
    together = _build(role, ['feats', 'logits'])
    if not isinstance(together, dict):
        return {'feats': good, 'logits': good}, together
    # building takes longest: what fails with both and not with `feats` fails at `logits`
    model = _build(role, ['feats'])
    if not isinstance(model, dict):
        return {'feats': good, 'logits': together}, model
    scores = _build(role, ['logits'])
    return {'feats': model, 'logits': scores if isinstance(scores, dict) else good}, None


def _build(role: dict[str, Any], taps: Sequence[str]) -> Any:
    """A ``Distillation``, or the verdict on what it raises."""
    edges = [
        dict(type='mmadm.Transfer', source='teacher', learner='student', at=at, loss=dict(LOSSES[at])) for at in taps
    ]
    roles = dict(student=role, teacher=role)
    try:
        return MODELS.build(dict(type='mmadm.Distillation', roles=roles, distillers=edges))
    except Exception as error:
        return _verdict_on(error)


def _step(scope: str, model: Any) -> Result:
    """One training step: forward, and one backward."""
    model = revert_sync_batchnorm(model)
    student = model.roles.student
    for side in SIDES:
        found = _trained(scope, model, side)
        if found['verdict'] == 'built':
            return found
    alone = _trained(scope, student, SIDES[-1])
    return _verdict('stock', alone['reason']) if alone['verdict'] == 'error' else found


def _trained(scope: str, model: Any, side: int) -> Result:
    student = model.roles.student if hasattr(model, 'roles') else model
    preprocessor = student.data_preprocessor
    preprocessor.batch_augments = None  # many pad each batch to 1024 pixels, which takes minutes on a CPU
    if getattr(preprocessor, 'size', None):
        preprocessor.size = (side, side)
    try:
        batch = labelled_batch(scope, input_channels(student), side)
        model.train()
        data = model.data_preprocessor(batch, True)
        losses = model(**data, mode='loss')
        model.parse_losses(losses)[0].backward()
    except Exception as error:
        return _verdict_on(error)
    return _verdict('built')


def _verdict(verdict: str, reason: str = '', **more: str) -> Result:
    return {'verdict': verdict, 'reason': reason, **more}


def _everywhere(verdict: str, reason: str) -> Result:
    return {at: _verdict(verdict, reason) for at in (*LOSSES, 'step')}


def _verdict_on(error: Exception) -> Result:
    if isinstance(error, ConfigError | CheckpointError):
        return _verdict('refused', _without_folders(str(error)))
    trace = ''.join(traceback.format_exception(error)[-4:])[-2000:]
    return _verdict('error', _without_folders(f'{type(error).__name__}: {error}'[:500]), trace=_without_folders(trace))


def _without_folders(text: str) -> str:
    """Cut the folders of this machine out of a text."""
    return re.sub(r'[^\s"\'(]*/(?=(site-packages|mmadm)/)', '', text)


def _serve(pipe: Any) -> None:
    """Answer configs with results until the other end is gone."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    pipe.send('ready')
    while True:
        try:
            config, steps = pipe.recv()
        except EOFError:
            return
        pipe.send(check(config, steps))
