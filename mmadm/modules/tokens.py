"""Receptive tokens, to be learnt (MasKD, Huang et al., ICLR 2023, arXiv 2205.14589; methods.md, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmadm.functional import mask_similarity, receptive_masks


class ReceptiveTokens(nn.Module):
    """Tokens for each level of a frozen teacher's features, to be learnt by the teacher's own task loss.

    Each level's features are replaced by ``sum_t m_t * F``, ``m_t`` the masks of the tokens: the task loss keeps what
    the task needs, and the masks' similarity, added to it with weight 1, drives the tokens to different places. The
    published program also weighs the tokens by a small network on the features; that part is left out here and in
    :func:`~mmadm.functional.masked_distance`.

    ``state_dict()`` is what :class:`~mmadm.losses.maskd.MaskedTokens` reads: tokens (T, C) by level.

    Args:
        tokens: Number of tokens for each level; 6 in the paper.
        channels: Channels of each level.
    """

    def __init__(self, tokens: int, channels: Sequence[int]) -> None:
        super().__init__()
        for level, width in enumerate(channels):
            self.register_parameter(str(level), nn.Parameter(0.01 * torch.randn(tokens, width)))

    def forward(
        self, features: Sequence[Tensor], inside: Sequence[Tensor | None] | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Mask the features of all levels.

        Args:
            features: One map (N, C, H, W) for each level.
            inside: For each level where the images are, bool (N, H, W), None if everywhere; the similarity of the masks
                counts there.

        Returns:
            The masked features, and the mean similarity of the masks, a scalar to be minimised.

        Raises:
            ValueError: If the number of levels or their channels are not those of the tokens.
        """
        levels = list(self.parameters())
        if len(features) != len(levels):
            raise ValueError(f'ReceptiveTokens: has tokens for {len(levels)} levels, found {len(features)}')
        masks = [receptive_masks(tokens, feature) for tokens, feature in zip(levels, features, strict=True)]
        # the masks of a position share its features, so their sum does what the sum of masked features would
        masked = [
            feature * mask.sum(dim=1, keepdim=True).to(feature.dtype)
            for feature, mask in zip(features, masks, strict=True)
        ]
        return masked, torch.stack(
            [mask_similarity(mask, where) for mask, where in zip(masks, inside or [None] * len(masks), strict=True)]
        ).mean()

    @contextmanager
    def inserted(
        self, module: nn.Module, inside: Callable[[Sequence[Tensor]], Sequence[Tensor | None]] | None = None
    ) -> Iterator[list[Tensor]]:
        """Let a teacher's module give masked features as long as the context is open.

        Args:
            module: The neck or backbone, whose output is a map or a tuple of maps.
            inside: Says where the images are on these maps, see :meth:`forward`; everywhere by default.

        Yields:
            A list that receives the masks' similarity of each forward. It is the caller's to empty.
        """
        similarities: list[Tensor] = []

        def mask_output(_: nn.Module, __: tuple[object, ...], output: Tensor | Sequence[Tensor]) -> object:
            """Put the masked maps in the output's place."""
            maps = [output] if isinstance(output, Tensor) else output
            masked, similarity = self(maps, inside(maps) if inside else None)
            similarities.append(similarity)
            return masked[0] if isinstance(output, Tensor) else tuple(masked)

        handle = module.register_forward_hook(mask_output)
        try:
            yield similarities
        finally:
            handle.remove()
