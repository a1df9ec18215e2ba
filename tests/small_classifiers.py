"""Real MMPretrain networks and batches, small enough for a test."""

from __future__ import annotations

from copy import deepcopy

import torch
from mmengine.registry import MODELS, DefaultScope

SIZE = (64, 64)
CLASSES = 5


def classifier(width=4, classes=CLASSES, depth=18, std=58.0, **head):
    """Config of a narrow ResNet classifier."""
    return dict(
        type='ImageClassifier',
        data_preprocessor=dict(num_classes=classes, mean=[120.0] * 3, std=[std] * 3, to_rgb=True),
        backbone=dict(type='ResNet', depth=depth, base_channels=width, stem_channels=width, style='pytorch'),
        neck=dict(type='GlobalAveragePooling'),
        head={'type': 'LinearClsHead', 'num_classes': classes, 'in_channels': 8 * width, **head},
    )


def vision_transformer(width=16, classes=CLASSES, out_type='cls_token'):
    """Config of a ViT of two layers."""
    arch = dict(embed_dims=width, num_layers=2, num_heads=2, feedforward_channels=width)
    return dict(
        type='ImageClassifier',
        data_preprocessor=dict(num_classes=classes, mean=[120.0] * 3, std=[58.0] * 3, to_rgb=True),
        backbone=dict(type='VisionTransformer', arch=arch, img_size=SIZE[0], patch_size=16, out_type=out_type),
        head=dict(
            type='VisionTransformerClsHead',
            num_classes=classes,
            in_channels=width,
            init_cfg=dict(type='Normal', layer='Linear', std=0.1),
        ),
    )


def build(cfg, seed=0):
    """Build and initialise a model in mmpretrain's scope, from a seed."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(seed)
        model = MODELS.build(deepcopy(cfg))
        model.init_weights()
    return model.train()


def distillation(seed=0, **kwargs):
    """``mmadm.Distillation``; by default a narrow student and a wider teacher."""
    roles = dict(student=classifier(4), teacher=classifier(8))
    return build({**dict(type='mmadm.Distillation', roles=roles), **kwargs}, seed)


def batch(number=4, seed=0, size=SIZE):
    """A batch as the stock data loader collates it."""
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, 256, (number, 3, *size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (number,), generator=generator).tolist()
    samples = [DataSample(metainfo=dict(img_shape=size, num_classes=CLASSES)).set_gt_label(label) for label in labels]
    return dict(inputs=inputs, data_samples=samples)
