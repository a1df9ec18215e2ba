"""What the adapters of all MMDetection models share: feature levels and ground truth."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmadm.structures import GroundTruth


def feats_path(model: nn.Module) -> str:
    """Module that the tap ``feats`` reads: the neck, else the backbone."""
    return 'neck' if getattr(model, 'with_neck', False) else 'backbone'


def ground_truth(data_samples: list[Any]) -> GroundTruth:
    """The objects of each image.

    Args:
        data_samples: Preprocessed ``DetDataSample``, one for each image; of others nothing is known.
    """
    if not all('bboxes' in getattr(sample, 'gt_instances', ()) for sample in data_samples):
        return GroundTruth()
    instances = [sample.gt_instances for sample in data_samples]
    boxes = [getattr(objects.bboxes, 'tensor', objects.bboxes) for objects in instances]
    return GroundTruth(boxes=boxes, box_labels=[objects.labels for objects in instances])


def no_objects() -> GroundTruth:
    """What is known of an image without objects, such as that of a dry run."""
    return GroundTruth(boxes=[torch.zeros(0, 4)], box_labels=[torch.zeros(0, dtype=torch.long)])
