"""Make the roles of large configs small enough for a test."""

from __future__ import annotations

import small_detectors

from mmadm.utils.config import role_model_cfg, without_pretrained

SEGMENTATION_SIZE = (64, 128)


def small(role: dict, width: int) -> dict:
    """The role's stock model with its own kind of neck and heads, but narrow and with random weights."""
    cfg = without_pretrained(role_model_cfg(dict(cfg=role['cfg'])))
    if 'decode_head' not in cfg:
        small_detectors.narrow(cfg, width, small_detectors.CLASSES)
        return cfg
    cfg['data_preprocessor']['size'] = SEGMENTATION_SIZE
    backbone, head = cfg['backbone'], cfg['decode_head']
    if 'embed_dims' in backbone:
        backbone.update(embed_dims=width, num_layers=[1, 1, 1, 1])
        head.update(in_channels=[width * heads for heads in backbone['num_heads']], channels=8)
        return cfg
    backbone.update(depth=18, base_channels=width, stem_channels=width)
    head.update(in_channels=8 * width, channels=8)
    cfg['auxiliary_head'].update(in_channels=4 * width, channels=8)
    return cfg
