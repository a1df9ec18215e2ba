"""What the adapters of all MMDetection models share: ground truth and blank samples."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmadm.structures import GroundTruth


def feats_path(model: nn.Module) -> str:
    """Module that the tap ``feats`` reads: the neck, else the backbone."""
    return 'neck' if getattr(model, 'with_neck', False) else 'backbone'


def ground_truth(data_samples: list[Any]) -> GroundTruth:
    """The objects of each image.

    Args:
        data_samples: Preprocessed ``DetDataSample``, one for each image.
    """
    instances = [sample.gt_instances for sample in data_samples]
    boxes = [getattr(objects.bboxes, 'tensor', objects.bboxes) for objects in instances]
    return GroundTruth(boxes=boxes, box_labels=[objects.labels for objects in instances])


def blank_samples(count: int, size: tuple[int, int]) -> list[Any]:
    """Data samples of images (height, width) without objects, for a dry run."""
    from mmdet.structures import DetDataSample

    meta = dict(img_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1, 1))
    return [DetDataSample(metainfo=meta) for _ in range(count)]
