"""Class maps of networks that predict a set of masks with a class each: MaskFormer and Mask2Former."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmadm.adapters.taps import Reading
from mmadm.structures import Kind

#: Below this a score counts as none; logits of smaller ones would be huge
EPSILON = 1e-6


def map_reading(path: str, exclusive: bool) -> Reading:
    """What the tap ``logits`` reads of a head that puts out classes and masks of queries, by decoder layer.

    Queries of two decoders do not correspond. What they predict for a pixel does: the sum over queries of the
    probability of a class, times that of lying in the mask, as stock mmseg scores pixels.

    Args:
        path: The head.
        exclusive: Whether each pixel has one class (semantic and panoptic segmentation), so that one softmax of these
            logits is the distribution over classes; else each class has a sigmoid (instance segmentation).
    """
    kind = Kind.SOFTMAX_SCORES if exclusive else Kind.SIGMOID_SCORES
    return Reading((path,), partial(_class_maps, exclusive), kind)


def _class_maps(exclusive: bool, _args: Any, _kwargs: Any, output: Any) -> Sequence[Tensor]:
    """Class maps (N, K, h, w) of the last decoder layer's classes (N, Q, K + 1) and masks (N, Q, h, w)."""
    classes, masks = output[0][-1].float(), output[1][-1].float()
    scores = torch.einsum('bqk,bqhw->bkhw', classes.softmax(dim=-1)[..., :-1], masks.sigmoid())
    return [scores.clamp(min=EPSILON).log() if exclusive else scores.logit(eps=EPSILON)]
