"""Real MMSegmentation networks and batches, small enough for a test."""

from __future__ import annotations

from copy import deepcopy

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData

SIZE = (32, 32)
CLASSES = 5


def segmentor(width=4, dropout=0.1, classes=CLASSES, norm='BN', auxiliary=False, std=58.0):
    """Config of a narrow ResNet-18 FCN at output stride 16; the decode head reads layer4."""
    norm_cfg = dict(type='GN', num_groups=2) if norm == 'GN' else dict(type=norm)
    head = dict(
        type='FCNHead', num_convs=1, concat_input=False, channels=8, num_classes=classes, dropout_ratio=dropout,
        norm_cfg=norm_cfg, align_corners=False, loss_decode=dict(type='CrossEntropyLoss'),
    )  # fmt: skip
    cfg = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[120.0] * 3, std=[std] * 3, bgr_to_rgb=True, size=SIZE, seg_pad_val=255
        ),
        backbone=dict(
            type='ResNet', depth=18, base_channels=width, stem_channels=width, strides=(1, 2, 2, 1),
            dilations=(1, 1, 1, 2), norm_cfg=norm_cfg,
        ),
        decode_head=dict(head, in_channels=8 * width, in_index=3),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )  # fmt: skip
    if auxiliary:
        cfg['auxiliary_head'] = dict(head, in_channels=4 * width, in_index=2)
    return cfg


def build(cfg, seed=0):
    """Build and initialise a model in mmseg's scope, from a seed."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.manual_seed(seed)
        model = MODELS.build(deepcopy(cfg))
        model.init_weights()
    return model.train()


def distillation(seed=0, **kwargs):
    """Build ``mmadm.Distillation``; by default a student and a wider teacher without a distiller."""
    cfg = dict(type='mmadm.Distillation', roles=dict(student=segmentor(4), teacher=segmentor(8)))
    return build({**cfg, **kwargs}, seed)


def batch(number=2, seed=0, size=SIZE, ignored_rows=4, classes=CLASSES):
    """A collated batch as the stock data loader gives it; the top rows carry the ignore label."""
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for _ in range(number):
        inputs.append(torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator))
        labels = torch.randint(0, classes, (1, *size), generator=generator)
        labels[:, :ignored_rows] = 255
        meta = dict(img_shape=size, ori_shape=size)
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=meta))
    return dict(inputs=inputs, data_samples=samples)


def plain_optimiser(model, lr=0.05, momentum=0.9):
    """One stock optimiser for every parameter."""
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum))


def train(model, steps=3, optimiser=None):
    """Run stock training steps on fixed batches, as a Runner would; return the logged losses of each."""
    optimiser = optimiser or plain_optimiser(model)
    return [{k: float(v) for k, v in model.train_step(batch(seed=step), optimiser).items()} for step in range(steps)]
