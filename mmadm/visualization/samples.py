"""Finished runs that predict again: models and images for the pictures of a report."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor, nn

from mmadm.registry import MODELS
from mmadm.utils.checkpoint import newest_checkpoint, read_checkpoint

Image = NDArray[np.uint8]
IGNORED = (236, 238, 241)


@dataclass(frozen=True)
class FinishedRun:
    """Model and data of a training.

    Attributes:
        cfg: The config that the training wrote into its work dir.
        model: The network with the last checkpoint's weights, in eval mode.
        dataset: The data set that the scores are taken on.
    """

    cfg: Config
    model: nn.Module
    dataset: Any


def open_run(work_dir: Path) -> FinishedRun:
    """Build a run's model from its own config and its last checkpoint.

    Args:
        work_dir: Work dir of a finished training.

    Raises:
        FileNotFoundError: If config or checkpoint are gone.
    """
    configs, checkpoint = sorted(work_dir.glob('*.py')), newest_checkpoint(work_dir)
    if not configs or checkpoint is None:
        raise FileNotFoundError(f'{work_dir} needs the config and a checkpoint of its training to draw pictures')
    cfg = Config.fromfile(configs[-1])
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the training told them
        model = MODELS.build(cfg.model)
    model.load_state_dict(read_checkpoint(checkpoint)['state_dict'])
    with redirect_stdout(io.StringIO()):  # pycocotools prints
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    return FinishedRun(cfg, model.eval(), dataset)


def spread_indices(length: int, count: int) -> list[int]:
    """``count`` indices at equal distances inside ``range(length)``; all of them if there are fewer."""
    count = min(count, length)
    return [(2 * index + 1) * length // (2 * count) for index in range(count)]


def rgb_image(item: dict[str, Any]) -> Image:
    """The image (H, W, 3) of a packed sample, whose tensor is (3, H, W) in BGR as OpenCV reads it."""
    return np.ascontiguousarray(item['inputs'].permute(1, 2, 0).numpy()[..., ::-1]).astype(np.uint8)


def truth(item: dict[str, Any]) -> Tensor:
    """Class ids (H, W) of a packed sample."""
    return item['data_samples'].gt_sem_seg.data.squeeze(0)


def run_model(run: FinishedRun, item: dict[str, Any]) -> Any:
    """The data sample that the deploy role, or the stock model, predicts for a packed one."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the training told them
        return run.model.test_step(pseudo_collate([item]))[0]


def predict(run: FinishedRun, item: dict[str, Any]) -> Tensor:
    """Class ids (H, W) that a segmentation run predicts."""
    return run_model(run, item).pred_sem_seg.data.squeeze(0).cpu()


def paint(labels: Tensor, palette: Sequence[Sequence[int]], ignore_index: int = 255) -> Image:
    """Class ids (H, W) as an RGB image (H, W, 3); ignored pixels are light grey."""
    table = np.full((256, 3), IGNORED, dtype=np.uint8)
    table[: len(palette)] = np.asarray(palette, dtype=np.uint8)
    table[ignore_index] = IGNORED
    return table[labels.numpy().astype(np.uint8)]


def right_pixels(prediction: Tensor, labels: Tensor, ignore_index: int = 255) -> float:
    """Percentage of the labelled pixels that are predicted right; NaN without labelled pixels."""
    valid = labels != ignore_index
    return 100 * (prediction == labels)[valid].double().mean().item()


def enlarge(image: Image, width: int = 480) -> Image:
    """Enlarge a small image by a whole factor to at least ``width`` pixels, edges kept sharp; always a copy."""
    factor = max(1, -(-width // image.shape[1]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def png(image: Image, width: int = 480) -> bytes:
    """Encode an RGB image, small ones enlarged to at least ``width`` pixels."""
    buffer = io.BytesIO()
    PILImage.fromarray(enlarge(image, width)).save(buffer, format='PNG', optimize=True)
    return buffer.getvalue()
