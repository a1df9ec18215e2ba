"""Finished runs that predict again: models and images for the pictures of a report."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch import Tensor, nn

from mmadm.registry import MODELS
from mmadm.utils.checkpoint import check_same_tensors, holds_role, newest_checkpoint, read_checkpoint
from mmadm.utils.config import read_config
from mmadm.utils.errors import CheckpointError
from mmadm.utils.scope import use_scope


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
    cfg = read_config(configs[-1])
    model = load_model(cfg, checkpoint)
    with redirect_stdout(io.StringIO()):  # pycocotools prints
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    return FinishedRun(cfg, model, dataset)


def load_model(cfg: Config, checkpoint: str | Path) -> nn.Module:
    """Build a config's model with the weights of a training of it; sets the config's default scope.

    Args:
        cfg: Config of an ``mmadm.Distillation`` or of a stock model.
        checkpoint: Full checkpoint.

    Returns:
        The model on the CPU, in eval mode.

    Raises:
        CheckpointError: If the checkpoint cannot be read or is of another model.
    """
    use_scope(cfg.get('default_scope'))
    loaded = read_checkpoint(checkpoint)
    built = deepcopy(cfg.model)
    if 'data_preprocessor' in cfg:
        built.setdefault('data_preprocessor', cfg.data_preprocessor)
    built.pop('compile', None)  # takes longer than it saves for a few images
    for name, role in built.get('roles', {}).items():
        if 'type' not in role and holds_role(loaded['state_dict'], name):
            role.pop('checkpoint', None)
    if 'roles' in built and 'role' in loaded['meta']:
        raise CheckpointError(
            f'{checkpoint} holds only role {loaded["meta"]["role"]!r} of {list(built.roles)}; give the full checkpoint'
        )
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the training told them
        model = MODELS.build(built)
    check_same_tensors(model, loaded['state_dict'], checkpoint)
    model.load_state_dict(loaded['state_dict'])
    return model.eval()


def truth(item: dict[str, Any]) -> Tensor:
    """Class ids (H, W) of a packed sample."""
    return item['data_samples'].gt_sem_seg.data.squeeze(0)


def run_model(model: nn.Module, item: dict[str, Any]) -> Any:
    """The data sample that the predicting role, or a stock model, predicts for a packed one."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the training told them
        return model.test_step(pseudo_collate([item]))[0]


def predict(run: FinishedRun, item: dict[str, Any]) -> Tensor:
    """Class ids (H, W) that a segmentation run predicts."""
    return run_model(run.model, item).pred_sem_seg.data.squeeze(0).cpu()


def right_pixels(prediction: Tensor, labels: Tensor, ignore_index: int = 255) -> float:
    """Percentage of the labelled pixels that are predicted right; NaN without labelled pixels."""
    valid = labels != ignore_index
    return 100 * (prediction == labels)[valid].double().mean().item()
