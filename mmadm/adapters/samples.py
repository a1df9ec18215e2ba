"""Look at a few samples of a training set as they reach the networks, beside the training."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmadm.utils.data_samples import data_samples

#: What a data sample holds class ids in: a map of them, objects, or itself
PIXELS, OBJECTS, IMAGES = 'gt_sem_seg', 'gt_instances', 'gt_label'
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)


@dataclass(frozen=True)
class Seen:
    """The labels of one sample, after all transforms.

    Attributes:
        where: File that they come from.
        ids: Class ids by ``gt_sem_seg``, ``gt_instances`` and ``gt_label``, where the sample has these.
        bad_boxes: Number of objects whose box has no area or lies off the image.
        info: What the data set knows of the sample before its transforms.
    """

    where: str
    ids: dict[str, frozenset[int]] = field(default_factory=dict)
    bad_boxes: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)


def look_at(dataset: Any, count: int) -> Iterator[tuple[Seen, Any]]:
    """Run a data set's own transforms on samples spread over it, without a trace in its transforms or generators.

    Only the global random generators move. What is no transform is shared, so this takes no memory.

    Args:
        dataset: A stock data set, possibly wrapped or joined of several, or one of the user's own.
        count: About how many samples at most.

    Yields:
        The labels of each data sample, and the packed item that it is in.

    Raises:
        Exception: Whatever the data set raises.
    """
    beside = _beside(dataset, {})
    for index in _spread(beside, count):
        info = beside.get_data_info(index) if hasattr(beside, 'get_data_info') else None
        item = beside[index]
        for sample in data_samples(item):
            name = f'sample {index} of {type(dataset).__name__}'
            yield _seen(sample, info if isinstance(info, Mapping) else {}, name), item


def parts_of(dataset: Any) -> Iterator[Any]:
    """The data sets inside wrappers (RepeatDataset, MultiImageMixDataset, ...) and concatenations."""
    inner = [part for parts in _wrapped(dataset).values() for part in parts]
    yield from chain.from_iterable(map(parts_of, inner)) if inner else [dataset]


def _wrapped(dataset: Any) -> dict[str, list[Any]]:
    """The data sets inside of one, by attribute."""
    found = vars(dataset)
    one = {'dataset': [found['dataset']]} if hasattr(found.get('dataset'), '__getitem__') else {}
    return {'datasets': list(found['datasets'])} if 'datasets' in found else one


def _beside(dataset: Any, copies: dict[int, Any]) -> Any:
    """A data set with transforms and generators of its own, which shares everything else."""
    made = copy(dataset)
    copies[id(dataset)] = made  # for transforms that know their data set
    for key, value in vars(dataset).items():
        if isinstance(value, _GENERATORS) or _is_transform(value):
            vars(made)[key] = deepcopy(value, copies)
    for key, parts in _wrapped(dataset).items():
        inner = [_beside(part, copies) for part in parts]
        vars(made)[key] = inner if key == 'datasets' else inner[0]
    return made


def _is_transform(value: Any) -> bool:
    return callable(value) or (isinstance(value, list | tuple) and any(map(callable, value)))


def _spread(dataset: Any, count: int) -> list[int]:
    """Indices at equal distances, in each part of a concatenation."""
    joined = dataset
    while not hasattr(joined, 'cumulative_sizes') and hasattr(joined, 'dataset'):
        joined = joined.dataset
    bounds = [0, *getattr(joined, 'cumulative_sizes', [len(dataset)])]
    share = max(1, count // (len(bounds) - 1))
    sizes = [(start, end - start, min(share, end - start)) for start, end in pairwise(bounds)]
    return [start + number * size // looks for start, size, looks in sizes for number in range(looks)]


def _seen(sample: Any, info: Mapping[str, Any], name: str) -> Seen:
    meta = {**info, **sample.metainfo}
    paths = (meta.get(key) for key in ('seg_map_path', 'xml_path', 'img_path'))
    ids = {}
    if PIXELS in sample:
        ids[PIXELS] = _ids(next(iter(sample.gt_sem_seg.values())))
    if IMAGES in sample:
        ids[IMAGES] = _ids(sample.get(IMAGES))
    objects: Any = sample.get(OBJECTS) or {}
    if 'labels' in objects:
        ids[OBJECTS] = _ids(objects.labels)
    bad = _count_bad(objects.bboxes, meta['img_shape']) if 'bboxes' in objects and 'img_shape' in meta else 0
    return Seen(next((str(path) for path in paths if path), name), ids, bad, info)


def _ids(labels: Any) -> frozenset[int]:
    return frozenset(map(int, torch.as_tensor(labels).unique()))


def _count_bad(boxes: Any, size: tuple[int, ...]) -> int:
    """How many upright boxes have no area or lie off the image."""
    corners: Tensor = getattr(boxes, 'tensor', boxes)
    if corners.shape[-1] != 4:  # rotated
        return 0
    left, top, right, bottom = corners.unbind(dim=-1)
    off = (left >= size[1]) | (top >= size[0]) | (right <= 0) | (bottom <= 0)
    return int((off | (right <= left) | (bottom <= top)).sum())
