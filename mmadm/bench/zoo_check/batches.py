"""A made-up batch that any network of the toolboxes can be trained on, with boxes, masks, classes and depth."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import InstanceData, PixelData

#: Images of a batch; one alone has no statistics to normalise by
IMAGES = 2


def labelled_batch(scope: str, channels: int, side: int) -> dict[str, Any]:
    """Two square images of noise as a stock data loader gives them, with two objects of the first class each.

    Args:
        scope: Whose samples: ``mmseg``, ``mmdet`` or ``mmpretrain``.
        channels: Of the images.
        side: In pixels.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (IMAGES, channels, side, side), dtype=torch.uint8, generator=generator)
    make = {'mmseg': _pixels, 'mmdet': _objects, 'mmpretrain': _image}[scope]
    samples = []
    for index in range(IMAGES):
        sample = make(side)
        shape = (side, side)
        sample.set_metainfo(dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0), img_id=index, flip=False))
        samples.append(sample)
    return dict(inputs=list(inputs), data_samples=samples)


def _pixels(side: int) -> Any:
    from mmseg.structures import SegDataSample

    labels = torch.zeros(1, side, side, dtype=torch.long)
    labels[:, side // 2 :] = 1
    edges = torch.zeros_like(labels)
    edges[:, side // 2] = 1
    maps = dict(gt_sem_seg=labels, gt_edge_map=edges, gt_depth_map=1.0 + labels)
    sample = SegDataSample()
    for name, data in maps.items():
        sample.set_field(PixelData(data=data), name, dtype=PixelData)
    return sample


def _objects(side: int) -> Any:
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    corners = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.3, 0.4, 0.9, 0.9]]) * side
    masks = torch.zeros(len(corners), side, side, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, corners.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    sample = DetDataSample()
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(corners),
        labels=torch.zeros(len(corners), dtype=torch.long),
        masks=BitmapMasks(masks.numpy(), side, side),
    )
    sample.ignored_instances = InstanceData(bboxes=HorizontalBoxes(none[0]), labels=none[1])
    sample.gt_sem_seg = PixelData(sem_seg=masks.sum(dim=0, keepdim=True).clamp(max=1))
    # networks without an RPN are given their regions
    sample.proposals = InstanceData(bboxes=HorizontalBoxes(corners.repeat(8, 1)), scores=torch.ones(16))
    return sample


def _image(_side: int) -> Any:
    from mmpretrain.structures import DataSample

    return DataSample().set_gt_label(0)
