"""The labels that reach the networks: does every trainable role know them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from torch import nn

from mmadm.adapters.samples import IMAGES, OBJECTS, PIXELS, Seen, look_at, parts_of
from mmadm.utils.errors import ConfigError
from mmadm.utils.random import generator_states, replayed, untouched_generators

#: Where a detector says how many classes of objects it knows, in the order of asking
_OBJECT_HEADS = (
    ('roi_head.bbox_head', 'num_classes'),
    ('bbox_head', 'num_classes'),
    ('mask_head', 'num_classes'),
    ('panoptic_head', 'num_things_classes'),
)


@dataclass(frozen=True)
class _Knowledge:
    """Which class ids a network learns.

    Attributes:
        kind: What of a data sample holds them.
        key: What the number of classes is called.
        classes: Ids from 0 to below this.
        ignored: An id that does not count.
    """

    kind: str
    key: str
    classes: int
    ignored: int | None = None

    def wrong(self, seen: Seen) -> frozenset[int]:
        """Ids of a sample that are none of these."""
        return seen.ids.get(self.kind, frozenset()) - set(range(self.classes)) - {self.ignored}

    def __str__(self) -> str:
        ignored = f', ignore_index={self.ignored}' if self.kind == PIXELS else ''
        return f'outside 0..{self.classes - 1} ({self.key}={self.classes}{ignored})'


def check_labels(roles: Mapping[str, nn.Module], dataset: Any, count: int = 64) -> None:
    """Judge the labels of samples spread over a training set, as they come out of its transforms.

    An id that is no class stops the training if the network's own loss fails on such a sample, else it is a warning.
    So is what the toolbox leaves out without a word. No random generator moves.

    Args:
        roles: The trainable networks by role.
        dataset: A stock data set, possibly wrapped or joined of several, or one of the user's own.
        count: About how many samples at most.

    Raises:
        ConfigError: If a role cannot learn from a label; names the file.
    """
    seen: list[Seen] = []
    try:
        knowledge = [(role, known) for role, model in roles.items() for known in _knowledge(model)]
        told: set[tuple[str, str, int]] = set()
        with replayed(generator_states()), untouched_generators():
            for found, item in look_at(dataset, count) if knowledge else ():
                seen.append(found)
                for role, known in knowledge:
                    wrong = {(role, known.kind, label) for label in known.wrong(found)}
                    if not wrong <= told:
                        _judge(role, roles[role], known, found, item, dataset)
                        told |= wrong
    except ConfigError:
        raise
    except Exception as error:  # training may do without this sample, or run where it works
        _warn(f'The labels of {type(dataset).__name__} are not checked: {type(error).__name__}: {error}')
    for text in _worth_knowing({known for _, known in knowledge}, dataset, seen) if seen else ():
        _warn(text)


def _warn(text: str) -> None:
    MMLogger.get_current_instance().warning(text)


def _judge(role: str, model: nn.Module, known: _Knowledge, found: Seen, item: Any, dataset: Any) -> None:
    """Refuse a sample with ids that are no classes, unless the network takes it."""
    what = f'{found.where}: label ids {sorted(known.wrong(found))[:8]} are {known}'
    if known.kind == PIXELS:
        key = 'reduce_zero_label' if known.key.startswith('decode_head') else 'metainfo'
        others = f"the data set's {key} or the label files"
    else:
        files = {str(part.ann_file) for part in parts_of(dataset) if getattr(part, 'ann_file', None)}
        others = f"the data set's metainfo.classes or {', '.join(sorted(files)) or 'the labels'}"
    advice = f'Set {known.key}, {others} right'
    if refusal := _refusal(model, item):
        raise ConfigError(
            f'{what}. {advice}; model.roles.{role} cannot learn from it (on a CPU: {refusal}). '
            'mmadm.NonFiniteGuardHook(check_labels=False) tries nevertheless.'
        )
    _warn(f'{what}, but model.roles.{role} learns from them without an error. {advice} if that is not meant.')


def _knowledge(model: Any) -> Iterator[_Knowledge]:
    """What a network learns; nothing for one of which that is not known."""
    objects = _knowledge_of_objects(model)
    pixels = _knowledge_of_pixels(model)
    yield from filter(None, (objects, pixels))
    classes = getattr(getattr(model, 'head', None), 'num_classes', None)
    if not objects and not pixels and classes is not None:
        yield _Knowledge(IMAGES, 'head.num_classes', classes)


def _knowledge_of_pixels(model: Any) -> _Knowledge | None:
    """What the classifier of a segmentor learns, or that of a panoptic network's semantic maps."""
    head: Any = getattr(model, 'decode_head', None)
    if head is not None:
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        # the sigmoid of a single channel is one class against the rest
        binary = head.out_channels == 1 and any(getattr(part, 'use_sigmoid', False) for part in head.modules())
        classes = 2 if binary else head.num_classes
        return _Knowledge(PIXELS, 'decode_head.num_classes', classes, head.ignore_index)
    for path in ('semantic_head', 'panoptic_head'):
        head = getattr(model, path, None)
        if getattr(head, 'num_stuff_classes', 0):
            key = f'{path}.num_things_classes + num_stuff_classes'
            classes = head.num_things_classes + head.num_stuff_classes
            return _Knowledge(PIXELS, key, classes, getattr(getattr(head, 'loss_seg', None), 'ignore_index', 255))
    return None


def _knowledge_of_objects(model: Any) -> _Knowledge | None:
    for path, key in _OBJECT_HEADS:
        try:
            head = model.get_submodule(path)
        except AttributeError:
            continue
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        if hasattr(head, key):
            return _Knowledge(OBJECTS, f'{path}.{key}', getattr(head, key))
    return None


def _refusal(model: nn.Module, item: Any) -> str | None:
    """What a network's own loss says to a packed sample; None if it takes it."""
    # a copy: nothing that training changes may move. On the CPU, as a GPU does not recover from a wrong id
    copied = revert_sync_batchnorm(deepcopy(model)).cpu().train()
    try:
        with torch.no_grad():
            batch = copied.data_preprocessor(pseudo_collate([deepcopy(item), deepcopy(item)]), True)
            copied(**batch, mode='loss')
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    return None


def _worth_knowing(knowledge: set[_Knowledge], dataset: Any, seen: Sequence[Seen]) -> Iterator[str]:
    """What is no error but may be a mistake."""
    for known in knowledge:
        if not any(one.ids.get(known.kind, frozenset()) - {known.ignored} for one in seen):
            what = {PIXELS: 'a labelled pixel', OBJECTS: 'an object to learn', IMAGES: 'a label'}[known.kind]
            yield f'None of the {len(seen)} training samples that were looked at has {what}.'
    if all(known.kind != OBJECTS for known in knowledge):
        return
    if bad := [one for one in seen if one.bad_boxes]:
        number = sum(one.bad_boxes for one in bad)
        yield f'{number} boxes have no area or lie off the image after the transforms, the first of {bad[0].where}.'
    boxes = [(one, box) for one in seen for box in _boxes(one.info)]
    if over := [(one, box) for one, box in boxes if _reaches_beyond(box, one.info)]:
        yield (
            f'{len(over)} of {len(boxes)} boxes reach beyond their image, such as {over[0][1]} of {over[0][0].where}: '
            'are they stored as the format wants them (COCO: x, y, width, height)?'
        )
    parts = [part for part in parts_of(dataset) if hasattr(part, 'cat_ids') and hasattr(part, 'cat_img_map')]
    for part in parts:
        # images of several files may have the same ids
        yield from _left_out(part, [one.info for one in seen] if len(parts) == 1 else [])


def _boxes(info: Mapping[str, Any]) -> list[Any]:
    """Boxes (x1, y1, x2, y2) of a stock data set's sample that count."""
    found = info.get('instances') or []
    return [one['bbox'] for one in found if len(one.get('bbox', ())) == 4 and not one.get('ignore_flag')]


def _reaches_beyond(box: Any, info: Mapping[str, Any]) -> bool:
    if not {'width', 'height'} <= set(info):
        return False
    # a pixel over is how some tools round
    return box[0] < -1 or box[1] < -1 or box[2] > info['width'] + 1 or box[3] > info['height'] + 1


def _left_out(part: Any, infos: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a COCO data set of mmdet does not hand on of its file, without a word."""
    file, trained = part.ann_file, set(part.cat_ids)
    classes = part.metainfo.get('classes') or ()
    if len(trained) < len(classes):
        yield (
            f'{file} has only {len(trained)} of the {len(classes)} metainfo.classes {list(classes)[:9]}; mmdet '
            'numbers those that the file has, so ids may stand for others.'
        )
    other = {category: len(images) for category, images in part.cat_img_map.items() if category not in trained}
    if number := sum(other.values()):
        yield f'{file}: {number} annotations are left out, of categories {sorted(other)[:9]} that are not trained.'
    kept = {info['img_id']: len(info['instances']) for info in infos if 'segments_info' not in info}
    number = sum(image in kept for category in trained for image in part.cat_img_map.get(category, ()))
    if lost := number - sum(kept.values()):
        yield (
            f'{file}: {lost} of the {number} annotations of {len(kept)} images that were looked at are left out: '
            'marked to be ignored, without area or off their image.'
        )
