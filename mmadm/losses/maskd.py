"""Masked distillation with receptive tokens as a registered module."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mmadm.functional import masked_distance, receptive_masks
from mmadm.losses.base import DistillationLoss
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext
from mmadm.utils.errors import CheckpointError, ConfigError
from mmadm.utils.weights import read_state_dict


@MODELS.register_module()
class MaskedTokens(DistillationLoss):
    """MasKD: compare features where learnt tokens of the teacher look (Huang et al., ICLR 2023; methods.md, section 5).

    Args:
        tokens: File with a dict from level (``'0'``, ``'1'``, ...) to tokens (T, C), as ``torch.save`` writes the state
            of :class:`~mmadm.modules.tokens.ReceptiveTokens`. It is read anew at each start, and in no checkpoint.

    Raises:
        ConfigError: If the file is missing or holds something else.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.MAP})
    instead: ClassVar[str] = (
        'KLDivergence at class scores or distributions, mmdet.SmoothL1Loss at boxes, HintMSE at tokens or vectors'
    )

    def __init__(self, tokens: str) -> None:
        super().__init__()
        self.path = tokens
        levels = _read_tokens(tokens)
        self.levels = len(levels)
        for level, values in enumerate(levels):
            self.register_buffer(f'level{level}', values, persistent=False)

    def forward(self, student: Tensor, teacher: Tensor, context: PairContext = PairContext()) -> Tensor:
        """Compare features (N, C, H, W) of one level.

        Args:
            student: The learner's features.
            teacher: The source's features, same shape; the masks are taken on them.
            context: Its level names the tokens.

        Returns:
            A scalar.

        Raises:
            ConfigError: If the tokens were learnt for fewer levels or other channels.
        """
        level = context.level
        if not 0 <= level < self.levels:
            raise ConfigError(
                f'MaskedTokens.tokens={self.path!r}: has tokens for {self.levels} levels, the tap has a level {level}'
            )
        tokens = self.get_buffer(f'level{level}')
        if tokens.shape[1] != teacher.shape[1]:
            raise ConfigError(
                f'MaskedTokens.tokens={self.path!r}: tokens of level {level} have {tokens.shape[1]} channels, the '
                f'teacher has {teacher.shape[1]}; train tokens on this teacher at this tap'
            )
        with torch.no_grad():  # masks say where to look: constant weights
            masks = receptive_masks(tokens, teacher)
        return masked_distance(student, teacher, masks, context.mask)


def _read_tokens(path: str) -> list[Tensor]:
    try:
        found = read_state_dict(path, 'MaskedTokens.tokens')
    except CheckpointError as error:
        raise ConfigError(f'{error} Tokens are learnt on the teacher before the distillation.') from error
    names = [str(level) for level in range(len(found))]
    if not found or set(found) != set(names) or any(tokens.dim() != 2 for tokens in found.values()):
        shapes = {name: tuple(tokens.shape) for name, tokens in list(found.items())[:3]}
        raise ConfigError(
            f"MaskedTokens.tokens={path!r}: expected tokens (T, C) by level, '0', '1', ...; found {shapes}"
        )
    with torch.no_grad():
        return [found[name].float().clone() for name in names]
