"""Real segmentation networks and batches that are small enough to train a few steps in no time."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from torch import nn

CLASSES = 5
SIZE = (64, 64)

Config = dict[str, Any]
Batch = dict[str, Any]


def segmentor(width: int = 4, norm: str = 'BN', dropout: float = 0.1) -> Config:
    """Config of a narrow ResNet-18 FCN at output stride 16.

    Args:
        width: Channels of the first stage.
        norm: Kind of the normalisation layers.
        dropout: Of the head.
    """
    norm_cfg = dict(type='GN', num_groups=2) if norm == 'GN' else dict(type=norm)
    return dict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(
            type='mmseg.SegDataPreProcessor',
            mean=[120.0] * 3, std=[58.0] * 3, bgr_to_rgb=True, size=SIZE, seg_pad_val=255,
        ),
        backbone=dict(
            type='mmseg.ResNet', depth=18, base_channels=width, stem_channels=width, strides=(1, 2, 2, 1),
            dilations=(1, 1, 1, 2), norm_cfg=norm_cfg,
        ),
        decode_head=dict(
            type='mmseg.FCNHead', num_convs=1, concat_input=False, in_channels=8 * width, in_index=3, channels=8,
            num_classes=CLASSES, dropout_ratio=dropout, norm_cfg=norm_cfg, align_corners=False,
            loss_decode=dict(type='mmseg.CrossEntropyLoss'),
        ),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )  # fmt: skip


def build(cfg: Mapping[str, Any], scope: str = 'mmseg', seed: int = 0) -> nn.Module:
    """Build and initialise a model on the CPU from a seed, so that every device gets the same weights."""
    with DefaultScope.overwrite_default_scope(scope):
        torch.manual_seed(seed)
        model = MODELS.build(deepcopy(dict(cfg)))
        model.init_weights()
    return model.train()


def segmentation_batch(
    number: int = 2, seed: int = 0, size: tuple[int, int] = SIZE, classes: int = CLASSES, ignored: int = 4
) -> Batch:
    """A collated batch as the stock data loader gives it, of smooth random images.

    Args:
        number: Images.
        seed: Of their content.
        size: Height and width.
        classes: Labels.
        ignored: Rows at the top with the ignore label.
    """
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for _ in range(number):
        inputs.append(random_image(size, generator))
        blocks = torch.randint(0, classes, (1, -(-size[0] // 8), -(-size[1] // 8)), generator=generator)
        labels = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, : size[0], : size[1]].clone()
        labels[:, :ignored] = 255
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def random_image(size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """A uint8 image (3, H, W) of random values."""
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
