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


def cross_head(
    head: Any, start: int, classification: Sequence[Tensor], regression: Sequence[Tensor]
) -> tuple[list[Tensor], ...]:
    """Pass features through the convolutions of a head from one on, and through its output layers.

    The gradient runs towards the features; weights get one unless they are frozen. In eval no buffer moves.

    Args:
        head: A stock head of RetinaNet, FCOS, ATSS or GFL.
        start: Number of convolutions of each branch that are left out.
        classification: What enters the others of the branch of classes, (N, C, h, w) of each level.
        regression: The same of the branch of boxes.

    Returns:
        Class scores and box maps of each level, of ATSS centerness too, as the head puts them out in training.

    Raises:
        ValueError: If the head is another one.
    """
    return cross_scores(head, start, classification), *cross_boxes(head, start, regression)


def cross_scores(head: Any, start: int, features: Sequence[Tensor]) -> list[Tensor]:
    """Class scores alone; see :func:`cross_head`."""
    predict = getattr(head, _layers(head)[0])
    return [predict(_through(head.cls_convs[start:], feature)) for feature in features]


def cross_boxes(head: Any, start: int, features: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
    """Box maps, of ATSS centerness too; see :func:`cross_head`."""
    _, box_layer, centerness_layer = _layers(head)
    features = [_through(head.reg_convs[start:], feature) for feature in features]
    boxes = [getattr(head, box_layer)(feature) for feature in features]
    if hasattr(head, 'scales'):
        boxes = [scale(level).float() for scale, level in zip(head.scales, boxes, strict=True)]
    if hasattr(head, 'norm_on_bbox'):  # FCOS; distances in strides, where these are normalised
        boxes = [level.clamp(min=0) if head.norm_on_bbox else level.exp() for level in boxes]
    if centerness_layer is None:
        return (boxes,)
    return boxes, [getattr(head, centerness_layer)(feature) for feature in features]


def known_head(head: Any) -> CrossHead | None:
    """What CrossKD has to know of a head; None if its layers are not those of a stock one."""
    name = _stock_name(head)
    if name is None:
        return None
    scores, boxes, centerness = _LAYERS[name]
    branches = ((head.cls_convs, getattr(head, scores)), (head.reg_convs, getattr(head, boxes)))
    widths = [[*(conv.in_channels for conv in convs), layer.in_channels] for convs, layer in branches]
    return CrossHead(
        name,
        list(zip(*widths, strict=False)),
        partial(_tap_scores, head),
        partial(_tap_boxes, head),
        None if centerness is None else f'bbox_head.{centerness}',
    )


def _tap_scores(head: Any, start: int, features: Sequence[Tensor]) -> list[Tensor]:
    return [_in_batch(scores, head.cls_out_channels) for scores in cross_scores(head, start, features)]


def _tap_boxes(head: Any, start: int, features: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
    boxes, *rest = cross_boxes(head, start, features)
    if hasattr(head, 'integral'):
        boxes = [_in_batch(level, head.reg_max + 1) for level in boxes]
    return boxes, *rest


def _in_batch(values: Tensor, channels: int) -> Tensor:
    """What a map holds beside so many channels moves into the batch, as in the taps ``logits`` and ``boxes``."""
    return values.reshape(-1, channels, *values.shape[2:])


def _through(convs: Iterable[Any], feature: Tensor) -> Tensor:
    for conv in convs:
        feature = conv(feature)
    return feature


def _layers(head: Any) -> tuple[str, str, str | None]:
    name = _stock_name(head)
    if name is None:
        raise ValueError(f'cross_head: {type(head).__name__} is none of {", ".join(_LAYERS)}')
    return _LAYERS[name]


def _stock_name(head: Any) -> str | None:
    """The stock head whose forward pass a head has."""
    from mmdet.models import dense_heads

    for name in _LAYERS:
        stock, own = getattr(dense_heads, name), type(head)
        same = [getattr(own, part, None) == getattr(stock, part) for part in ('forward', 'forward_single')]
        if issubclass(own, stock) and all(same):
            return name
    return None
