"""Learn the receptive tokens of a frozen teacher (MasKD, arXiv 2205.14589; methods.md, section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmadm.adapters import Adapter
from mmadm.adapters.base import batch_area
from mmadm.adapters.labels import check_labels
from mmadm.adapters.taps import stride_of
from mmadm.algorithms.role_runner import DRY_RUN_SIZE
from mmadm.algorithms.roles import build_roles
from mmadm.distillers.grids import Grid
from mmadm.modules import ReceptiveTokens
from mmadm.registry import MODELS
from mmadm.structures import BatchArea, Kind, Tap, TapOutput
from mmadm.utils.checkpoint import read_checkpoint
from mmadm.utils.errors import CheckpointError, ConfigError
from mmadm.utils.random import untouched_generators


@MODELS.register_module()
class TokenTraining(BaseModel):
    """Trains receptive tokens by a frozen teacher's own task loss on masked features, plus the masks' similarity.

    ``tools/export.py CKPT --tokens FILE`` writes them for :class:`~mmadm.losses.maskd.MaskedTokens`. In validation the
    teacher predicts from masked features: what it still finds is what the tokens look at.

    Args:
        roles: One role, the teacher, as for :class:`~mmadm.algorithms.distillation.Distillation`.
        at: What is masked: ``feats`` or the path of a module that puts out a map or a tuple of maps; the tap of the
            later distillation.
        tokens: Number of tokens for each level.
        data_preprocessor: For a teacher that names none of its own; the Runner passes a config's top-level one here.

    Raises:
        ConfigError: If there is not exactly one role, or `at` names no such module.
        CheckpointError: If the teacher's checkpoint is missing, torn or of another architecture.
    """

    def __init__(
        self,
        roles: Mapping[str, Mapping[str, Any]],
        at: str = 'feats',
        tokens: int = 6,
        data_preprocessor: Mapping[str, Any] | None = None,
    ) -> None:
        if len(roles) != 1:
            raise ConfigError(f'model.roles={list(roles)}: tokens are learnt on one frozen teacher; name one role')
        (name,) = roles
        built, adapters, preprocessors, loaded = build_roles(roles, data_preprocessor)
        super().__init__(data_preprocessor=preprocessors[name])
        self.roles = built.requires_grad_(False)
        self._adapter = adapters[name]
        self._teacher, self._is_loaded = name, name in loaded
        if self._is_loaded and loaded[name].misfit:
            where = f'model.roles.{name}.checkpoint={loaded[name].checkpoint!r}'
            raise CheckpointError(
                f'{where} does not fit the teacher, whose own loss trains the tokens: {loaded[name].misfit}'
            )
        with untouched_generators():
            self._path, found = _masked_module(self._adapter, self.teacher.eval(), at)
        self._strides = found.strides
        self.tokens = ReceptiveTokens(tokens, [level.shape[1] for level in found.levels])

    @property
    def teacher(self) -> Any:
        """The frozen network."""
        return self.roles[self._teacher]

    def init_weights(self) -> None:
        """Initialise a teacher without a checkpoint as the stock toolbox would."""
        if not self._is_loaded:
            self.teacher.init_weights()
        self._is_init = True

    def train(self, mode: bool = True) -> TokenTraining:
        """Set the mode of the tokens; the teacher stays in eval as far as its loss allows.

        Some heads put out something else in eval, of which no loss can be made (FCOS pixels, RepPoints boxes), so that
        modules made of others know that this is training. What drops, normalises or keeps statistics holds no modules,
        but for attention, and stays in eval.
        """
        self.training = mode
        self.tokens.train(mode)
        self.teacher.eval()
        for module in self.teacher.modules() if mode else ():
            holds_others = any(True for _ in module.children())
            module.training = holds_others and not isinstance(module, nn.MultiheadAttention)
        return self

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Run the teacher with masked features.

        Args:
            inputs: Images (N, 3, H, W).
            data_samples: Stock data samples.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            In mode ``loss`` the teacher's losses and ``loss_similarity``; else what the teacher returns.
        """
        area = batch_area(inputs, data_samples or ())  # before the model runs: some edit their samples
        module = self.teacher.get_submodule(self._path)
        with self.tokens.inserted(module, partial(self._inside, area)) as similarities:
            output = self.teacher(inputs, data_samples, mode=mode)
        if mode != 'loss':
            return output
        return {**output, 'loss_similarity': torch.stack(similarities).mean()}

    def _inside(self, area: BatchArea, maps: Sequence[Tensor]) -> list[Tensor | None]:
        """Where the images of a batch lie on maps of all levels."""
        strides = [
            stride_of((level.shape[2], level.shape[3]), area.padded, known)
            for level, known in zip(maps, self._strides, strict=True)
        ]
        return [Grid(level, stride, area).image_mask() for level, stride in zip(maps, strides, strict=True)]

    def check_data(self, dataset: Any) -> None:
        """Check a training set's labels against the teacher; ConfigError names the file."""
        check_labels({self._teacher: self.teacher}, dataset)


def trained_tokens(path: str | Path) -> dict[str, Tensor]:
    """Read learnt tokens from a checkpoint of a :class:`TokenTraining`.

    Args:
        path: File.

    Returns:
        Tokens (T, C) by level, ``'0'``, ``'1'``, ...

    Raises:
        CheckpointError: If the file cannot be read or holds no tokens.
    """
    state = read_checkpoint(path)['state_dict']
    found = {key.removeprefix('tokens.'): value for key, value in state.items() if key.startswith('tokens.')}
    if not found:
        raise CheckpointError(f'{path} holds no tokens: it is not of a training with model.type=mmadm.TokenTraining')
    return found


def _masked_module(adapter: Adapter, teacher: nn.Module, at: str) -> tuple[str, TapOutput]:
    """Path of the module whose output is masked, and what it gave on a blank image."""
    if '[' in at or at in ('logits', 'boxes'):
        raise ConfigError(f'model.at={at!r}: tokens mask all that a module puts out; name `feats` or a module path')
    tap = Tap.parse(adapter.name, at)
    (path,) = adapter.paths(teacher, [tap])
    found = adapter.probe(teacher, DRY_RUN_SIZE, [tap]).output.taps[tap]
    if found.kind not in (Kind.MAP, Kind.SOFTMAX_SCORES, Kind.SIGMOID_SCORES):
        shapes = [tuple(level.shape) for level in found.levels]
        raise ConfigError(f'model.at={at!r}: puts out {found.kind.value} {shapes}, not maps (N, C, H, W)')
    return path, found
