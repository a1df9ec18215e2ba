"""What the adapters of all MMDetection models share: ground truth, image areas, checks of annotation files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.utils.errors import ConfigError, near_matches


def feats_path(model: nn.Module) -> str:
    """Module that the tap ``feats`` reads: the neck, else the backbone."""
    return 'neck' if getattr(model, 'with_neck', False) else 'backbone'


def ground_truth(inputs: Tensor, data_samples: list[Any]) -> dict[str, Any]:
    """What a RoleOutput tells of the ground truth: the area of each image before padding, and its objects.

    Args:
        inputs: Preprocessed images of shape (N, 3, H, W).
        data_samples: Preprocessed ``DetDataSample``, one for each image.
    """
    valid = torch.zeros(inputs.shape[0], *inputs.shape[2:], dtype=torch.bool, device=inputs.device)
    for mask, sample in zip(valid, data_samples, strict=True):
        mask[: sample.img_shape[0], : sample.img_shape[1]] = True
    instances = [sample.gt_instances for sample in data_samples]
    return {
        'valid': valid,
        'gt_boxes': [objects.bboxes for objects in instances],
        'gt_labels': [objects.labels for objects in instances],
    }


def blank_samples(count: int, size: tuple[int, int]) -> list[Any]:
    """Data samples of images (height, width) without objects, for a dry run."""
    from mmdet.structures import DetDataSample

    meta = dict(img_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1, 1))
    return [DetDataSample(metainfo=meta) for _ in range(count)]


def check_detection_data(role: str, num_classes: int, dataset: Any) -> None:
    """Look for what stock mmdet drops without a word: other classes, unknown categories, boxes off the image.

    Args:
        role: The role's name.
        num_classes: Number of classes of its head.
        dataset: A stock mmdet data set, possibly wrapped or joined of several.

    Raises:
        ConfigError: If classes do not match or an annotation cannot be used; names the file.
    """
    for part in _plain_datasets(dataset):
        classes = tuple(part.metainfo.get('classes') or ())
        if classes and len(classes) != num_classes:
            raise ConfigError(
                f'model.roles.{role}: its head has num_classes={num_classes}, {type(part).__name__} has '
                f'{len(classes)} classes ({", ".join(classes[:3])}, ...); set num_classes or metainfo.classes'
            )
        if str(getattr(part, 'ann_file', '')).endswith('.json'):
            check_coco_file(str(part.ann_file), classes)


@lru_cache(maxsize=8)  # every trainable role asks about the same file
def check_coco_file(file: str, classes: tuple[str, ...]) -> None:
    """Check a COCO annotation file.

    Args:
        file: Path.
        classes: Names of the classes that are trained.

    Raises:
        ConfigError: If the file is no COCO file, a class is not in it, a category id is unknown, or a box lies
            outside its image.
    """
    if not Path(file).is_file():  # another storage backend, or a missing file, of which mmdet tells
        return
    content = json.loads(Path(file).read_text(encoding='utf-8'))
    try:
        categories = {category['id']: category['name'] for category in content['categories']}
        sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
        annotations = content['annotations']
    except (KeyError, TypeError) as error:
        raise ConfigError(f'{file}: not a COCO annotation file, {error} is missing') from error
    for name in classes:
        if name not in categories.values():
            raise ConfigError(f'{file} has no category {name!r}; {near_matches(name, categories.values())}')
    over = 0
    for annotation in annotations:
        where = f'{file}: annotation {annotation.get("id")}'
        if annotation['category_id'] not in categories:
            raise ConfigError(
                f'{where} has category_id {annotation["category_id"]}, which is not among its categories '
                f'{sorted(categories)[:10]}'
            )
        if annotation['image_id'] not in sizes:
            raise ConfigError(f'{where} belongs to image {annotation["image_id"]}, which the file does not list')
        (x, y, width, height), (w, h) = annotation['bbox'], sizes[annotation['image_id']]
        if x >= w or y >= h or x + width <= 0 or y + height <= 0:
            raise ConfigError(
                f'{where}: bbox {annotation["bbox"]} (x, y, width, height) lies outside its image of {w} x {h} '
                'pixels; remove it or set it right'
            )
        over += x < -1 or y < -1 or x + width > w + 1 or y + height > h + 1
    if over:
        warnings.warn(
            f'{file}: {over} of {len(annotations)} boxes reach beyond their image; are they (x, y, width, height)?',
            stacklevel=2,
        )


def _plain_datasets(dataset: Any) -> Iterator[Any]:
    """The data sets inside wrappers (RepeatDataset, ...) and concatenations."""
    if hasattr(dataset, 'datasets'):
        yield from chain.from_iterable(_plain_datasets(part) for part in dataset.datasets)
    elif not hasattr(dataset, 'pipeline') and hasattr(dataset, 'dataset'):
        yield from _plain_datasets(dataset.dataset)
    elif hasattr(dataset, 'dataset') and not hasattr(dataset, 'ann_file'):  # MultiImageMixDataset
        yield from _plain_datasets(dataset.dataset)
    else:
        yield dataset
