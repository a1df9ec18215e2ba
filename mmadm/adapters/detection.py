"""What the adapters of all MMDetection models share: ground truth, image areas, blank samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


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
