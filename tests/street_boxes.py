"""A few images with large boxes, and short trainings of the demo's detectors on them."""

import json
from copy import deepcopy

import cv2
import numpy as np
from mmengine.config import Config
from small_trainings import ROOT

CLASSES = ('person', 'car', 'traffic sign')
ITERATIONS = 60


def write_boxes(folder):
    """Write 64x128 images with a person to the left and a car to the right, where the demo looks for streets."""
    rng = np.random.default_rng(0)
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES)]
    for split, number in (('train', 8), ('val', 3)):
        images, annotations = [], []
        (folder / f'streets/leftImg8bit/{split}').mkdir(parents=True)
        for index in range(number):
            image = rng.normal(120, 10, (64, 128, 3))
            for category, (x, y, w, h) in enumerate([(8, 8, 24, 48), (72, 16, 48, 32)]):
                x, y = x + int(rng.integers(0, 4)), y + int(rng.integers(0, 4))
                image[y : y + h, x : x + w] = (0, 0, 250) if category else (250, 0, 0)
                box = dict(image_id=index, category_id=category, bbox=[x, y, w, h], area=w * h, iscrowd=0)
                annotations.append(dict(box, id=len(annotations)))
            cv2.imwrite(str(folder / f'streets/leftImg8bit/{split}/{index}.png'), image.clip(0, 255).astype(np.uint8))
            images.append(dict(id=index, file_name=f'{index}.png', width=128, height=64))
        file = folder / f'streets/annotations/instances_{split}.json'
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return folder


def demo_config(method, test_batch):
    cfg = Config.fromfile(ROOT / f'configs/demo/{method}.py')
    cfg.train_cfg.update(max_iters=ITERATIONS, val_interval=ITERATIONS)
    cfg.param_scheduler = None
    cfg.default_hooks.logger.interval = 20
    cfg.default_hooks.checkpoint.interval = ITERATIONS
    cfg.train_dataloader.batch_size = 2
    cfg.val_dataloader.dataset.pipeline[2].scale = (128, 64)
    # other loader, same images: the test must find exactly the last validation's scores again
    cfg.test_dataloader = dict(deepcopy(cfg.val_dataloader), batch_size=test_batch)
    return cfg
