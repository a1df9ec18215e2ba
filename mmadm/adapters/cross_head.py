"""The rest of a single-stage detector's head, run on features that come from elsewhere (CrossKD)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from mmadm.utils.dense import CrossHead

#: By stock head its layers of class scores, boxes and a centerness that CrossKD compares
_LAYERS = {
    'RetinaHead': ('retina_cls', 'retina_reg', None),
    'FCOSHead': ('conv_cls', 'conv_reg', None),
    'ATSSHead': ('atss_cls', 'atss_reg', 'atss_centerness'),
    'GFLHead': ('gfl_cls', 'gfl_reg', None),
}


def known_head(head: Any) -> CrossHead | None:
    """How CrossKD passes features through a head from one convolution on; None if its layers are not a stock one's.

    The gradient runs towards the features; weights get one unless they are frozen. In eval no buffer moves.
    """
    name = _stock_name(head)
    if name is None:
        return None
    scores, boxes, centerness = _LAYERS[name]
    branches = ((head.cls_convs, getattr(head, scores)), (head.reg_convs, getattr(head, boxes)))
    widths = [[*(conv.in_channels for conv in convs), layer.in_channels] for convs, layer in branches]
    return CrossHead(
        name,
        list(zip(*widths, strict=False)),
        partial(_scores, head, scores),
        partial(_boxes, head, boxes, centerness),
        None if centerness is None else f'bbox_head.{centerness}',
    )


def _scores(head: Any, layer: str, start: int, features: Sequence[Tensor]) -> list[Tensor]:
    predict = getattr(head, layer)
    return [_in_batch(predict(_through(head.cls_convs[start:], level)), head.cls_out_channels) for level in features]


def _boxes(
    head: Any, layer: str, centerness: str | None, start: int, features: Sequence[Tensor]
) -> tuple[list[Tensor], ...]:
    features = [_through(head.reg_convs[start:], level) for level in features]
    boxes = [getattr(head, layer)(level) for level in features]
    if hasattr(head, 'scales'):
        boxes = [scale(level).float() for scale, level in zip(head.scales, boxes, strict=True)]
    if hasattr(head, 'norm_on_bbox'):  # FCOS; distances in strides, where these are normalised
        boxes = [level.clamp(min=0) if head.norm_on_bbox else level.exp() for level in boxes]
    if hasattr(head, 'integral'):
        boxes = [_in_batch(level, head.reg_max + 1) for level in boxes]
    return (boxes,) if centerness is None else (boxes, [getattr(head, centerness)(level) for level in features])


def _in_batch(values: Tensor, channels: int) -> Tensor:
    """What a map holds beside so many channels moves into the batch, as in the taps ``logits`` and ``boxes``."""
    return values.reshape(-1, channels, *values.shape[2:])


def _through(convs: Iterable[Any], feature: Tensor) -> Tensor:
    for conv in convs:
        feature = conv(feature)
    return feature


def _stock_name(head: Any) -> str | None:
    """The stock head whose forward pass a head has."""
    from mmdet.models import dense_heads

    for name in _LAYERS:
        stock, own = getattr(dense_heads, name), type(head)
        same = [getattr(own, part, None) == getattr(stock, part) for part in ('forward', 'forward_single')]
        if issubclass(own, stock) and all(same):
            return name
    return None
