"""The global context block of FGD (Yang et al., CVPR 2022, arXiv 2111.11837; Cao et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GlobalContext(nn.Module):
    """``F + expand(ReLU(LN(reduce(ctx))))``, ``ctx_c = sum_i F_ci softmax_i(mask(F))``: what a map holds as a whole.

    FGD compares the student's map behind one block with the teacher's behind another, by
    :func:`~mmadm.functional.generation_distance`. It starts as the identity.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.mask = nn.Conv2d(channels, 1, kernel_size=1)
        self.reduce = nn.Conv2d(channels, inner, kernel_size=1)
        self.norm = nn.LayerNorm([inner, 1, 1])
        self.expand = nn.Conv2d(inner, channels, kernel_size=1)
        nn.init.kaiming_normal_(self.mask.weight, mode='fan_in', nonlinearity='relu')
        nn.init.zeros_(self.expand.weight)
        for convolution in (self.mask, self.expand):
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)

    def forward(self, feature: Tensor, mask: Tensor | None = None) -> Tensor:
        """Add the context of each image to all of its positions.

        Args:
            feature: Shape (N, C, H, W).
            mask: True where a position counts, shape (N, H, W); all positions by default. The context is made of
                these alone.

        Returns:
            The same shape.
        """
        score = self.mask(feature).flatten(1).float()
        if mask is not None:
            # finite, so that an image of which no position counts gets no NaN
            score = score.masked_fill(~mask.flatten(1), torch.finfo(score.dtype).min)
        context = torch.einsum('ncp,np->nc', feature.flatten(2).float(), score.softmax(dim=1))
        return feature + self.expand(self.norm(self.reduce(context[:, :, None, None])).relu())
