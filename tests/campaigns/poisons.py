"""Small data sets for segmentation and detection, and what can be wrong with one sample of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import small_detectors
from small_trainings import write_images

#: Images of a training set, and the size of those with objects
IMAGES, SIZE = 8, (96, 128)


def write_objects(folder: Path) -> None:
    """Write images with boxes and their COCO file."""
    rng = np.random.default_rng(0)
    (folder / 'img/train').mkdir(parents=True)
    images, annotations = [], []
    for index in range(IMAGES):
        picture = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'img/train/{index}.jpg'), picture)
        images.append(dict(id=index, file_name=f'{index}.jpg', height=SIZE[0], width=SIZE[1]))
        for _ in range(3):
            box = [int(rng.integers(0, 60)), int(rng.integers(0, 40)), int(rng.integers(20, 60)), 40]
            annotations.append(annotation(len(annotations), index, box))
    categories = [dict(id=number, name=f'class{number}') for number in range(small_detectors.CLASSES)]
    write_coco(folder, dict(images=images, annotations=annotations, categories=categories))


def annotation(number: int, image: int, box: list[float]) -> dict[str, Any]:
    """One object of a COCO file."""
    return dict(
        id=number,
        image_id=image,
        category_id=number % small_detectors.CLASSES,
        bbox=box,
        area=box[2] * box[3],
        iscrowd=0,
    )


def write_coco(folder: Path, content: dict[str, Any]) -> None:
    """Write the COCO file."""
    (folder / 'train.json').write_text(json.dumps(content))


def set_boxes(folder: Path, index: int, boxes: list[list[float]]) -> None:
    """Give an image other boxes."""
    content = json.loads((folder / 'train.json').read_text())
    kept = [one for one in content['annotations'] if one['image_id'] != index]
    content['annotations'] = kept + [annotation(1000 + number, index, box) for number, box in enumerate(boxes)]
    write_coco(folder, content)


def write_labelled(folder: Path) -> None:
    """Write images with label maps, as JPEG."""
    write_images(folder, train=IMAGES)
    for file in (folder / 'img').rglob('*.png'):
        cv2.imwrite(str(file.with_suffix('.jpg')), cv2.imread(str(file)))
        file.unlink()


def image(folder: Path, index: int) -> Path:
    """File of an image."""
    return folder / f'img/train/{index}.jpg'


def label(folder: Path, index: int) -> Path:
    """File of a label map."""
    return folder / f'ann/train/{index}.png'


def cut(file: Path, share: float) -> None:
    """Cut a file off."""
    os.truncate(file, int(file.stat().st_size * share))


def tiny(folder: Path, index: int) -> None:
    """Make an image, and its labels if there are any, one pixel large."""
    cv2.imwrite(str(image(folder, index)), np.full((1, 1, 3), 90, np.uint8))
    if label(folder, index).exists():
        cv2.imwrite(str(label(folder, index)), np.zeros((1, 1), np.uint8))
    else:
        set_boxes(folder, index, [[0, 0, 1, 1]])


Poison = Callable[[Path, int], object]
BOTH: dict[str, Poison] = {
    'nothing': lambda folder, index: None,
    'JPEG cut off': lambda folder, index: cut(image(folder, index), 0.4),
    'JPEG of 3 bytes': lambda folder, index: image(folder, index).write_bytes(b'\xff\xd8\xff'),
    'empty image file': lambda folder, index: image(folder, index).write_bytes(b''),
    'NaN in an image': lambda folder, index: None,
    'image of 1x1': tiny,
}
POISONS: dict[str, dict[str, Poison]] = {
    'segmentation': {
        **BOTH,
        'labels of another size': lambda folder, index: cv2.imwrite(
            str(label(folder, index)), np.zeros((20, 40), np.uint8)
        ),
        'empty label file': lambda folder, index: label(folder, index).write_bytes(b''),
        'missing label file': lambda folder, index: label(folder, index).unlink(),
        'labels all ignored': lambda folder, index: cv2.imwrite(
            str(label(folder, index)), np.full((32, 32), 255, np.uint8)
        ),
        'a label that is no class': lambda folder, index: cv2.imwrite(
            str(label(folder, index)), np.full((32, 32), 77, np.uint8)
        ),
    },
    'detection': {
        **BOTH,
        'missing image': lambda folder, index: image(folder, index).unlink(),
        'image without objects': lambda folder, index: set_boxes(folder, index, []),
        '200 boxes': lambda folder, index: set_boxes(
            folder, index, [[n % 20 * 5, n // 20 * 8, 20, 15] for n in range(200)]
        ),
        'box without area': lambda folder, index: set_boxes(folder, index, [[5, 5, 0, 0], [9, 9, 30, 0]]),
        'box off the image': lambda folder, index: set_boxes(folder, index, [[500, 500, 20, 20]]),
        'box of a thousandth pixel': lambda folder, index: set_boxes(folder, index, [[5, 5, 1e-3, 1e-3]]),
        'NaN in a box': lambda folder, index: set_boxes(folder, index, [[5, float('nan'), 9, 9]]),
    },
}
