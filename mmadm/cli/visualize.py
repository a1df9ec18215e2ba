"""Draw what the roles of a training predict for images, and what its distillers see in them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, VISUALIZERS
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mmadm.bench.boxes import SURE
from mmadm.bench.finished_runs import load_model, run_model
from mmadm.bench.pictures import png
from mmadm.utils.checkpoint import write_atomically
from mmadm.utils.cli import one_line_errors, require_writable
from mmadm.utils.config import read_config, resolve_config
from mmadm.utils.errors import ConfigError
from mmadm.utils.scope import use_scope
from mmadm.visualization.distiller_maps import avatar_variances, similarity_maps
from mmadm.visualization.overlay import SCALES, Image, heat_overlay, in_colours

#: By what a model predicts: the stock visualizer that draws it, and how
VISUALIZERS_OF: dict[str, tuple[str, dict[str, Any]]] = {
    'pred_sem_seg': ('mmseg.SegLocalVisualizer', {}),
    'pred_instances': ('mmdet.DetLocalVisualizer', {'pred_score_thr': SURE}),
}
console = Console()

#: Pictures by file name, with what they show
Pictures = dict[str, tuple[Image, str]]


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the tool."""
    parser = argparse.ArgumentParser(prog='mmadm visualize', description=__doc__)
    parser.add_argument('config', help='config file of the training')
    parser.add_argument('checkpoint', help='full checkpoint of the training')
    parser.add_argument('images', nargs='+', type=Path, metavar='IMAGE', help='image file, or folder of images')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='gets a folder for each image')
    return parser.parse_args(arguments)


def read_images(paths: Sequence[Path], pipeline: Compose) -> dict[Path, Image]:
    """Read every image, those of folders too, as the test pipeline does.

    Args:
        paths: Files and folders.
        pipeline: Its first transform reads an image.

    Returns:
        RGB images (H, W, 3) by file.

    Raises:
        ConfigError: If a path does not exist, is no image, or a folder holds none.
    """
    load = pipeline.transforms[0]
    files: list[Path] = []
    for path in paths:
        found = sorted(p for p in path.iterdir() if cv2.haveImageReader(str(p))) if path.is_dir() else [path]
        if not found:
            raise ConfigError(f'IMAGE {path}: the folder holds no image')
        files += found
    images = {}
    for path in files:
        if not path.is_file():
            raise ConfigError(f'IMAGE {path}: no such file')
        try:
            values = load(dict(img_path=str(path)))['img']
        except Exception as error:  # each reader has errors of its own
            name = type(load).__name__
            raise ConfigError(f'IMAGE {path}: {name}, which begins the test pipeline, cannot read it') from error
        images[path] = in_colours(torch.from_numpy(np.atleast_3d(values)).permute(2, 0, 1))
    return images


def test_data(cfg: Config, name: str) -> ConfigDict:
    """The part of a config that describes its test images.

    Args:
        cfg: Config.
        name: Its file name, for the error.

    Raises:
        ConfigError: If the config has no model or no test pipeline.
    """
    if 'model' not in cfg:
        raise ConfigError(f'{name} has no `model`: give the config of a training')
    dataset = (cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}).get('dataset', {})
    while 'pipeline' not in dataset and (inner := dataset.get('dataset') or dataset.get('datasets')):
        dataset = inner[0] if isinstance(inner, list) else inner  # of ConcatDataset or a wrapper such as RepeatDataset
    if 'pipeline' not in dataset:
        raise ConfigError(f'{name} has no test_dataloader.dataset.pipeline, which says how images are prepared')
    return dataset


def image_pipeline(dataset: ConfigDict) -> Compose:
    """The transforms of a data set that need no annotations."""
    return Compose([step for step in dataset.pipeline if not step['type'].endswith('Annotations')])


def class_names(dataset: ConfigDict) -> dict[str, Any]:
    """Classes and palette of a data set, which need not be there.

    Raises:
        ConfigError: If it names no classes.
    """
    known = DATASETS.build({**dataset, 'lazy_init': True}).metainfo
    if not known.get('classes'):
        raise ConfigError('test_dataloader.dataset.metainfo has no `classes`, whose names and colours are drawn')
    return known


def predictions(model: nn.Module, item: dict[str, Any], image: Image, known: dict[str, Any]) -> Pictures:
    """Draw what every role, or the stock model, predicts.

    Args:
        model: In eval mode.
        item: The packed image.
        image: The image as it is stored (H, W, 3).
        known: Classes and palette.

    Raises:
        ConfigError: If the model predicts neither class maps nor boxes.
    """
    pictures: Pictures = {}
    for role in getattr(model, 'roles', {'': model}):
        if role:
            model.predicting = role
        # stock models write their predictions into the data samples
        sample = run_model(model, deepcopy(item)).cpu()
        kind = next((key for key in VISUALIZERS_OF if key in sample), None)
        if kind is None:
            raise ConfigError(f'model.type={type(model).__name__} predicts neither class maps nor boxes to draw')
        drawn_by, options = VISUALIZERS_OF[kind]
        visualizer = VISUALIZERS.build(dict(type=drawn_by, name=f'visualize_{kind}'))
        visualizer.alpha, visualizer.dataset_meta = 0.6, known
        visualizer.add_datasample(role, image, sample, draw_gt=False, **options)
        what = 'class map'
        if kind == 'pred_instances':
            what = f'{int((sample.pred_instances.scores > SURE).sum())} boxes with a score above {SURE}'
        pictures[f'prediction_{role}' if role else 'prediction'] = visualizer.get_image(), f'{what}, {role or "model"}'
    return pictures


def views(model: nn.Module, item: dict[str, Any], image: Image) -> Pictures:
    """Draw what ADM sees, and how much avatars differ.

    Args:
        model: An ``mmadm.Distillation`` in eval mode.
        item: The packed image.
        image: The image as it is stored (H, W, 3).
    """
    pictures: Pictures = {}
    for maps in similarity_maps(model, item):
        for kind, (low, high, colours) in SCALES.items():
            values = on_image(getattr(maps, kind), item)
            told = f'of {maps.student} and {maps.teacher}' if kind == 'similarity' else 'times uniform'
            text = f'{span(values)} {told}; colours {low:g} to {high:g}'
            pictures[f'{maps.name}_{kind}'] = heat_overlay(image, values, low, high, colours), text
    for name, found in avatar_variances(model, item).items():
        for key, variance in found.items():
            values = on_image(variance, item)
            picture = heat_overlay(image, values, 0, max(values.max().item(), 1e-12), 'viridis')
            pictures[f'{name}_{key}_avatars'] = picture, f'{span(values)}, variance of the avatars; colours from 0'
        if not found:
            console.print(f'{name}: its avatars are of scores without positions, which have no map', markup=False)
    return pictures


def on_image(values: Tensor, item: dict[str, Any]) -> Tensor:
    """Cut a map (1, h, w) of a packed image to (h, w) of the stored one: a pipeline may have padded it."""
    meta = item['data_samples'].metainfo
    width, height = meta.get('scale_factor', (1.0, 1.0))
    resized = meta['ori_shape'][0] * height, meta['ori_shape'][1] * width
    sides = zip(resized, item['inputs'].shape[1:], values.shape[1:], strict=True)
    rows, columns = (min(side, math.ceil(inner / outer * side - 0.01)) for inner, outer, side in sides)
    return values[0, :rows, :columns].cpu()


def span(values: Tensor) -> str:
    """Lowest and highest value of a map, as text."""
    return f'{values.min().item():.3g} to {values.max().item():.3g}'


def folders(files: Sequence[Path], out: Path) -> Iterator[Path]:
    """A folder of its own for each image: its name, numbered where several have one name."""
    taken: set[str] = set()
    for file in files:
        name, number = file.stem, 1
        while name in taken:
            number += 1
            name = f'{file.stem}_{number}'
        taken.add(name)
        yield out / name


def write(pictures: Pictures, folder: Path, inputs: set[Path]) -> None:
    """Write the pictures of one image and say which.

    Args:
        pictures: What to write.
        folder: Where to.
        inputs: Files that must stay.

    Raises:
        ConfigError: If a picture would replace one of them, or cannot be written.
    """
    targets = {folder / f'{name}.png': shown for name, shown in pictures.items()}
    for target in targets:
        if target.resolve() in inputs:
            raise ConfigError(f'--out: {target} is an input; choose another folder')
    require_writable(folder, '--out')
    table = Table(title=str(folder), title_justify='left')
    table.add_column('file', overflow='fold')
    table.add_column('shows', overflow='fold')
    for target, (picture, text) in targets.items():
        write_atomically(png(picture, width=1), target)
        table.add_row(target.name, text)
    console.print(table, markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    with one_line_errors(2):
        MMLogger.get_current_instance().setLevel('WARNING')  # mmengine tells which environment variables it read
        path = resolve_config(args.config)
        cfg = read_config(path)
        dataset = test_data(cfg, args.config)
        use_scope(cfg.get('default_scope'))
        known, pipeline = class_names(dataset), image_pipeline(dataset)
        images = read_images(args.images, pipeline)
        model = load_model(cfg, args.checkpoint).to(get_device())
        inputs = {file.resolve() for file in (*images, path, Path(args.checkpoint))}
        for (file, image), folder in zip(images.items(), folders(list(images), args.out), strict=True):
            item = pipeline(dict(img_path=str(file), img_id=0))
            pictures = predictions(model, item, image, known)
            if hasattr(model, 'look'):
                pictures |= views(model, item, image)
            write(pictures, folder, inputs)
