"""The generated streets on disk: Cityscapes' folders, COCO boxes and a manifest that is written last."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmadm.demo.streets.canvas import CAR, INSTANCE, PERSON, SIGN, Array
from mmadm.demo.streets.scene import draw_street
from mmadm.utils.errors import ConfigError

# Raise it with every change to what is drawn, so that data sets on disk are made anew.
_VERSION = 1
_GENERATOR = 'mmadm generated streets'
# Split -> name of its city, as in Cityscapes a folder; the order gives each split its number in the seed.
_CITIES = {'train': 'oxenby', 'val': 'larkholt'}
_CATEGORIES = {PERSON: 'person', CAR: 'car', SIGN: 'traffic sign'}
_SMALLEST = (32, 64)
_META, _STAGE = 'meta.json', '.unfinished'
IMAGE_SUFFIX, LABEL_SUFFIX = '_leftImg8bit.png', '_gtFine_labelTrainIds.png'


def make_streets(
    root: str | os.PathLike[str],
    train: int = 160,
    val: int = 40,
    seed: int = 0,
    size: tuple[int, int] = (128, 256),
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Generate the street data set in a folder, unless just this one is there already.

    The same arguments give the same bytes. Everything is drawn in a folder aside and moved into place at the end, the
    manifest ``meta.json`` last, so a generation that was cut off is never taken for a finished one. Files that this
    function did not write are never touched.

    Args:
        root: Folder that gets ``leftImg8bit``, ``gtFine``, ``annotations`` and ``meta.json``.
        train: Number of training images.
        val: Number of validation images.
        seed: Seed of all that is drawn.
        size: Height and width of the images in pixels.
        progress: Called with the numbers of images drawn and to draw, after each image.

    Returns:
        Whether it drew anything.

    Raises:
        ConfigError: If an argument is out of range, or the folder cannot be written to or holds other data under these
            names.
    """
    root = Path(root)
    counts = {'train': train, 'val': val}
    _check_arguments(counts, seed, size)
    meta = dict(generator=_GENERATOR, version=_VERSION, seed=seed, size=list(size), counts=counts)
    if _read_meta(root) == meta and all((root / path).is_file() for path in _files(counts)):
        return False
    _refuse_foreign(root)
    stage = root / _STAGE
    shutil.rmtree(stage, ignore_errors=True)
    try:
        stage.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f'root={str(root)!r} cannot be written to: {error.strerror}') from error
    _draw(stage, meta, progress)
    _publish(stage, root, meta)
    return True


def _draw(stage: Path, meta: dict[str, Any], progress: Callable[[int, int], None] | None) -> None:
    """Draw a whole data set into a folder."""
    counts, done = meta['counts'], 0
    for number, (split, count) in enumerate(counts.items()):
        boxes: dict[str, list[Any]] = dict(images=[], annotations=[])
        for index in range(count):
            image, ids = draw_street(meta['seed'], number, index, tuple(meta['size']))
            _write_image(stage, split, index, image, ids)
            _add_boxes(boxes, split, index, ids)
            done += 1
            if progress is not None:
                progress(done, sum(counts.values()))
        _write_boxes(stage / _box_file(split), boxes)


def _check_arguments(counts: dict[str, int], seed: int, size: tuple[int, int]) -> None:
    for split, count in counts.items():
        if count < 1:
            raise ConfigError(f'{split}={count}: a split needs at least 1 image.')
    if seed < 0:
        raise ConfigError(f'seed={seed}: a seed is 0 or more.')
    if len(size) != 2 or size[0] < _SMALLEST[0] or size[1] < _SMALLEST[1]:
        raise ConfigError(f'size={tuple(size)}: height and width must be at least {_SMALLEST}.')


def _read_meta(root: Path) -> dict[str, Any]:
    """Manifest of a folder; empty if there is none that this generator wrote."""
    try:
        meta = json.loads((root / _META).read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return meta if isinstance(meta, dict) and meta.get('generator') == _GENERATOR else {}


def _refuse_foreign(root: Path) -> None:
    """Raise if the folder holds data that is not ours; ours has our manifest, or was cut off and has the stage."""
    if _read_meta(root) or (root / _STAGE).is_dir():
        return
    found = [name for name in ('leftImg8bit', 'gtFine', 'annotations', _META) if (root / name).exists()]
    if found:
        raise ConfigError(
            f'{str(root)!r} holds {", ".join(found)}, which this generator did not write and will not replace; '
            'name an empty or new folder.'
        )


def _image_file(split: str, index: int) -> Path:
    city = _CITIES[split]
    return Path('leftImg8bit', split, city, f'{city}_{index:06d}_000000{IMAGE_SUFFIX}')


def _label_file(split: str, index: int) -> Path:
    city = _CITIES[split]
    return Path('gtFine', split, city, f'{city}_{index:06d}_000000{LABEL_SUFFIX}')


def _box_file(split: str) -> Path:
    return Path('annotations', f'instances_{split}.json')


def _files(counts: dict[str, int]) -> Iterator[Path]:
    """Every file of a data set but the manifest, relative to its root."""
    for split, count in counts.items():
        yield from (name(split, index) for index in range(count) for name in (_image_file, _label_file))
        yield _box_file(split)


def _write_image(root: Path, split: str, index: int, image: Array, ids: Array) -> None:
    labels = np.where(ids < INSTANCE, ids, ids // INSTANCE).astype(np.uint8)
    for path, pixels in ((_image_file(split, index), image[..., ::-1]), (_label_file(split, index), labels)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(cv2.imencode('.png', pixels)[1].tobytes())


def _add_boxes(boxes: dict[str, list[Any]], split: str, index: int, ids: Array) -> None:
    """Append an image and the boxes [x, y, width, height] of what is visible of each thing in it."""
    height, width = ids.shape
    path = _image_file(split, index)
    name = f'{path.parent.name}/{path.name}'  # relative to leftImg8bit/<split>
    boxes['images'].append(dict(id=index + 1, file_name=name, width=width, height=height))
    for ident in np.unique(ids[ids >= INSTANCE]).tolist():
        rows, columns = np.nonzero(ids == ident)
        left, top = int(columns.min()), int(rows.min())
        boxes['annotations'].append(
            dict(
                id=len(boxes['annotations']) + 1,
                image_id=index + 1,
                category_id=1 + list(_CATEGORIES).index(ident // INSTANCE),
                bbox=[left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top],
                area=len(rows),
                iscrowd=0,
            )
        )


def _write_boxes(path: Path, boxes: dict[str, list[Any]]) -> None:
    categories = [dict(id=number, name=name) for number, name in enumerate(_CATEGORIES.values(), start=1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(dict(info=dict(description=_GENERATOR), **boxes, categories=categories)), encoding='utf-8'
    )


def _publish(stage: Path, root: Path, meta: dict[str, Any]) -> None:
    """Move a complete stage into place; meanwhile there is no manifest, and the stage marks the folder as ours."""
    (root / _META).unlink(missing_ok=True)
    for split, city in _CITIES.items():  # an earlier data set may have had more images
        for folder, suffix in (('leftImg8bit', IMAGE_SUFFIX), ('gtFine', LABEL_SUFFIX)):
            for path in (root / folder / split / city).glob(f'{city}_??????_000000{suffix}'):
                path.unlink()
    for path in _files(meta['counts']):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(stage / path, root / path)
    (stage / _META).write_text(json.dumps(meta, indent=1) + '\n', encoding='utf-8')
    os.replace(stage / _META, root / _META)
    shutil.rmtree(stage)
