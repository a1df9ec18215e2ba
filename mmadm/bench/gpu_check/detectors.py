"""Stock detectors of every family with a narrow ResNet-18, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import InstanceData

from mmadm.bench.gpu_check.networks import Batch, Config, random_image
from mmadm.utils.config import role_model_cfg, without_pretrained

CLASSES = 3
SIZE = (96, 128)
FAMILIES = dict(
    retinanet='retinanet/retinanet_r50_fpn_1x_coco.py',
    faster='faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    rtmdet='rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    deformable='deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    fcos='fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    gfl='gfl/gfl_r50_fpn_1x_coco.py',
    mask='mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    reppoints='reppoints/reppoints-moment_r50_fpn_1x_coco.py',
    atss='atss/atss_r50_fpn_1x_coco.py',
    cascade='cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
    dino='dino/dino-4scale_r50_8xb2-12e_coco.py',
)
DETRS = ('deformable', 'dino')


def detector(family: str = 'retinanet', width: int = 4) -> Config:
    """Config of a family with a ResNet-18 of ``width`` base channels and 32 channels in neck and head."""
    cfg = without_pretrained(role_model_cfg(dict(cfg=f'mmdet::{FAMILIES[family]}')))
    if family == 'rtmdet':
        _narrow_rtmdet(cfg, width)
        return cfg
    indices = cfg['backbone'].get('out_indices', (0, 1, 2, 3))
    cfg['backbone'] = dict(
        type='ResNet', depth=18, base_channels=width, stem_channels=width, out_indices=indices, norm_cfg=dict(type='BN')
    )
    cfg['neck'].update(in_channels=[width * 2**i for i in indices], out_channels=32)
    if cfg['neck'].get('norm_cfg'):
        cfg['neck']['norm_cfg'] = dict(type='GN', num_groups=4)
    if 'encoder' in cfg:
        _narrow_transformer(cfg)
    elif 'bbox_head' in cfg:
        _narrow_dense(cfg['bbox_head'])
    else:
        _narrow_rois(cfg)
    return cfg


def detection_batch(
    number: int = 2,
    seed: int = 0,
    size: tuple[int, int] = SIZE,
    classes: int = CLASSES,
    objects: int = 3,
    masks: bool = False,
) -> Batch:
    """A collated batch as the stock data loader gives it.

    Args:
        number: Images; those after the first are smaller, so that they get padded.
        seed: Of their content.
        size: Height and width of the first.
        classes: Labels.
        objects: Boxes in each image.
        masks: Whether objects have masks, too.
    """
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes

    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for index in range(number):
        height, width = size if index == 0 else (size[0] - 20, size[1] - 30)
        inputs.append(random_image((height, width), generator))
        extent = torch.tensor([width, height])
        corner = torch.rand(objects, 2, generator=generator) * 0.5 * extent
        sides = 16 + torch.rand(objects, 2, generator=generator) * 0.4 * extent
        boxes = torch.cat([corner, (corner + sides).minimum(extent.float())], dim=1)
        labels = torch.randint(0, classes, (objects,), generator=generator)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0), img_id=index
            )
        )  # fmt: skip
        sample.gt_instances = InstanceData(bboxes=HorizontalBoxes(boxes), labels=labels)
        if masks:
            sample.gt_instances.masks = _filled(boxes, height, width)
        nothing = InstanceData(bboxes=HorizontalBoxes(torch.zeros(0, 4)), labels=torch.zeros(0).long())
        sample.ignored_instances = nothing
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def _filled(boxes: torch.Tensor, height: int, width: int) -> Any:
    """Masks that fill their boxes."""
    from mmdet.structures.mask import BitmapMasks

    filled = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(filled, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    return BitmapMasks(filled.numpy(), height, width)


def _narrow_rtmdet(cfg: Config, width: int) -> None:
    norm = dict(norm_cfg=dict(type='BN'))
    cfg['backbone'].update(deepen_factor=0.17, widen_factor=width / 32, **norm)
    channels = [8 * width, 16 * width, 32 * width]
    cfg['neck'].update(in_channels=channels, out_channels=32, num_csp_blocks=1, **norm)
    cfg['bbox_head'].update(in_channels=32, feat_channels=32, num_classes=CLASSES, exp_on_reg=False, **norm)
    cfg['data_preprocessor'].pop('batch_augments', None)


def _narrow_dense(head: Config) -> None:
    head.update(in_channels=32, feat_channels=32, num_classes=CLASSES, stacked_convs=1)
    if 'point_feat_channels' in head:
        head.update(point_feat_channels=32)
    if head['type'] != 'RetinaHead':  # stock: 32 groups
        head['norm_cfg'] = dict(type='GN', num_groups=4)


def _narrow_rois(cfg: Config) -> None:
    cfg['rpn_head'].update(in_channels=32, feat_channels=32)
    roi = cfg['roi_head']
    for key in ('bbox_roi_extractor', 'mask_roi_extractor'):
        if key in roi:
            roi[key]['out_channels'] = 32
    for head in roi['bbox_head'] if isinstance(roi['bbox_head'], list) else [roi['bbox_head']]:
        head.update(in_channels=32, fc_out_channels=32, num_classes=CLASSES)
    if 'mask_head' in roi:
        roi['mask_head'].update(in_channels=32, conv_out_channels=16, num_convs=1, num_classes=CLASSES)
    for proposal in (cfg['train_cfg']['rpn_proposal'], cfg['test_cfg']['rpn']):
        proposal.update(nms_pre=100, max_per_img=30)
    stages = cfg['train_cfg']['rcnn']
    for stage in stages if isinstance(stages, list) else [stages]:
        stage['sampler']['num'] = 24


def _narrow_transformer(cfg: Config) -> None:
    width = 256 if cfg['type'] == 'DINO' else 32  # DINO's query encoding has a fixed size
    cfg.update(num_queries=12)
    cfg['neck'].update(out_channels=width)
    for name in ('encoder', 'decoder'):
        part = cfg[name]
        part['num_layers'] = 2
        for attention in ('self_attn_cfg', 'cross_attn_cfg'):
            if attention in part['layer_cfg']:
                part['layer_cfg'][attention].update(embed_dims=width, num_heads=4)
        part['layer_cfg']['ffn_cfg'].update(embed_dims=width, feedforward_channels=32)
    cfg['positional_encoding'].update(num_feats=width // 2)
    cfg['bbox_head'].update(embed_dims=width, num_classes=CLASSES)
    if 'dn_cfg' in cfg:
        cfg['dn_cfg']['group_cfg'] = dict(dynamic=True, num_groups=None, num_dn_queries=4)
