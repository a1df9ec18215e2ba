"""Real MMDetection networks and batches, small enough for a test: stock configs with a narrow ResNet-18."""

from __future__ import annotations

from copy import deepcopy

import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData

from mmadm.utils.config import role_model_cfg, without_pretrained

SIZE = (96, 128)
CLASSES = 3
STOCK = dict(
    retinanet='retinanet/retinanet_r50_fpn_1x_coco.py',
    fcos='fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    fcos_norm='fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py',
    atss='atss/atss_r50_fpn_1x_coco.py',
    gfl='gfl/gfl_r50_fpn_1x_coco.py',
    reppoints='reppoints/reppoints-moment_r50_fpn_1x_coco.py',
    rtmdet='rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    faster='faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    mask='mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    cascade='cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
    cascade_mask='cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    htc='htc/htc_r50_fpn_1x_coco.py',
    scnet='scnet/scnet_r50_fpn_1x_coco.py',
    mask_c4='mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco.py',
    trident='tridentnet/tridentnet_r50-caffe_1x_coco.py',
    panoptic_fpn='panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
    deformable='deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    dino='dino/dino-4scale_r50_8xb2-12e_coco.py',
)
#: families that learn instance masks
WITH_MASKS = ('mask', 'cascade_mask', 'mask_c4', 'htc', 'scnet')
#: dense heads beside these, of which only the outputs are looked at: some need larger images or a package to train
HEADS = dict(
    paa='paa/paa_r50_fpn_1x_coco.py',
    vfnet='vfnet/vfnet_r50_fpn_1x_coco.py',
    autoassign='autoassign/autoassign_r50-caffe_fpn_1x_coco.py',
    centernet='centernet/centernet-update_r50-caffe_fpn_ms-1x_coco.py',
    fovea='foveabox/fovea_r50_fpn_4xb4-1x_coco.py',
    fsaf='fsaf/fsaf_r50_fpn_1x_coco.py',
    ddod='ddod/ddod_r50_fpn_1x_coco.py',
    guided='guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py',
)


def detector(family, width=4, classes=CLASSES, std=None):
    """Stock config of a family with a ResNet-18 of `width` base channels, 32 channels in neck and head."""
    cfg = without_pretrained(role_model_cfg(dict(cfg=f'mmdet::{(STOCK | HEADS)[family]}')))
    if family == 'rtmdet':
        cfg['backbone'].update(deepen_factor=0.17, widen_factor=width / 32, norm_cfg=dict(type='BN'))
        channels = [8 * width, 16 * width, 32 * width]
        cfg['neck'].update(in_channels=channels, out_channels=32, num_csp_blocks=1, norm_cfg=dict(type='BN'))
        cfg['bbox_head'].update(
            in_channels=32, feat_channels=32, num_classes=classes, norm_cfg=dict(type='BN'), exp_on_reg=False
        )
        cfg['data_preprocessor'].pop('batch_augments', None)
    elif 'neck' not in cfg:
        _narrow_without_neck(cfg, width, classes)
    else:
        narrow(cfg, width, classes)
    if std:
        cfg['data_preprocessor'].update(mean=[100.0] * 3, std=[std] * 3, bgr_to_rgb=False)
    return cfg


def narrow(cfg, width, classes):
    indices = cfg['backbone'].get('out_indices', (0, 1, 2, 3))
    cfg['backbone'] = dict(
        type='ResNet', depth=18, base_channels=width, stem_channels=width, out_indices=indices, norm_cfg=dict(type='BN')
    )
    cfg['neck'].update(in_channels=[width * 2**i for i in indices], out_channels=32)
    if cfg['neck'].get('norm_cfg'):
        cfg['neck']['norm_cfg'] = dict(type='GN', num_groups=4)
    head = cfg.get('bbox_head', {})
    if 'encoder' in cfg:
        _narrow_transformer(cfg, classes)
    elif head:
        head.update(in_channels=32, feat_channels=32, num_classes=classes, stacked_convs=1)
        if 'point_feat_channels' in head:
            head.update(point_feat_channels=32, stacked_convs=1)
        if head['type'] != 'RetinaHead':  # stock: 32 groups
            head['norm_cfg'] = dict(type='GN', num_groups=4)
    else:
        _narrow_rois(cfg, classes)


def _narrow_without_neck(cfg, width, classes):
    """Two stages on one level, and the rest of the ResNet on each region, whose stock layers begin at 64 channels."""
    trident = cfg['type'] == 'TridentFasterRCNN'  # knows no ResNet-18
    base, channels = width if trident else 4 * width, 16 * width
    cfg['backbone'].update(depth=50 if trident else 18, base_channels=base, stem_channels=base, norm_eval=trident)
    cfg['backbone'].update(frozen_stages=-1, norm_cfg=dict(type='BN'))
    cfg['rpn_head'].update(in_channels=channels, feat_channels=16)
    roi = cfg['roi_head']
    roi['bbox_roi_extractor']['out_channels'] = channels
    roi['shared_head'].update(depth=18, stage=channels.bit_length() - 6)
    roi['bbox_head'].update(in_channels=2 * channels, num_classes=classes)
    if 'mask_head' in roi:
        roi['mask_head'].update(in_channels=2 * channels, conv_out_channels=16, num_classes=classes)
    _few_regions(cfg)


def _narrow_rois(cfg, classes):
    cfg['rpn_head'].update(in_channels=32, feat_channels=32)
    roi = cfg['roi_head']
    for name in ('bbox_roi_extractor', 'mask_roi_extractor', 'semantic_roi_extractor'):
        if roi.get(name):
            roi[name]['out_channels'] = 32
    heads = roi['bbox_head'] if isinstance(roi['bbox_head'], list) else [roi['bbox_head']]
    for head in heads:
        head.update(in_channels=32, fc_out_channels=32, num_classes=classes)
    masks = roi.get('mask_head', [])
    for head in masks if isinstance(masks, list) else [masks]:
        # HTC and SCNet add what a convolution puts out to what it takes; SCNet's blocks are of two convolutions
        width = 16 if head['type'] == 'FCNMaskHead' else 32
        depth = 2 if head['type'] == 'SCNetMaskHead' else 1
        head.update(in_channels=32, conv_out_channels=width, num_convs=depth, num_classes=classes)
    for name in ('semantic_head', 'glbctx_head'):
        if name in roi:
            roi[name].update(in_channels=32, conv_out_channels=32, num_convs=2 if 'glbctx_head' in roi else 1)
    if 'glbctx_head' in roi:
        roi['glbctx_head'].update(num_classes=classes)
        roi['feat_relay_head'].update(in_channels=32, out_conv_channels=32)
    if 'semantic_head' in cfg:
        stuff = dict(num_things_classes=classes, num_stuff_classes=2)
        cfg['semantic_head'].update(
            in_channels=32, inner_channels=8, norm_cfg=dict(type='GN', num_groups=4, requires_grad=True), **stuff
        )
        cfg['panoptic_fusion_head'].update(stuff)
    _few_regions(cfg)


def _few_regions(cfg):
    cfg['train_cfg']['rpn_proposal'].update(nms_pre=100, max_per_img=30)
    cfg['test_cfg']['rpn'].update(nms_pre=100, max_per_img=30)
    for part in cfg['train_cfg']['rcnn'] if isinstance(cfg['train_cfg']['rcnn'], list) else [cfg['train_cfg']['rcnn']]:
        part['sampler']['num'] = 24


def _narrow_transformer(cfg, classes):
    width = 256 if cfg['type'] == 'DINO' else 32  # DINO's query encoding has a fixed size
    cfg.update(num_queries=12)
    cfg['neck'].update(out_channels=width)
    for name in ('encoder', 'decoder'):
        part = cfg[name]
        part['num_layers'] = 2
        layer = part['layer_cfg']
        for attention in ('self_attn_cfg', 'cross_attn_cfg'):
            if attention in layer:
                layer[attention].update(embed_dims=width, num_heads=4)
        layer['ffn_cfg'].update(embed_dims=width, feedforward_channels=32)
    cfg['positional_encoding'].update(num_feats=width // 2)
    cfg['bbox_head'].update(embed_dims=width, num_classes=classes)
    if 'dn_cfg' in cfg:
        cfg['dn_cfg']['group_cfg'] = dict(dynamic=True, num_groups=None, num_dn_queries=4)


def build(cfg, seed=0):
    """Build and initialise a model in mmdet's scope, from a seed."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(seed)
        model = MODELS.build(deepcopy(cfg))
        model.init_weights()
    for part in model.modules():
        # stock leaves these as the memory was, for the checkpoint that it starts from
        if type(part).__name__ == 'TridentConv':
            torch.nn.init.kaiming_normal_(part.weight)
    return model.train()


def distillation(family='retinanet', seed=0, **kwargs):
    """``mmadm.Distillation`` of a narrow student and a wider teacher of a family."""
    roles = dict(student=detector(family, 4), teacher=detector(family, 8))
    return build({**dict(type='mmadm.Distillation', roles=roles), **kwargs}, seed)


def batch(number=2, seed=0, size=SIZE, classes=CLASSES, objects=3, masks=False):
    """A collated batch as the stock data loader gives it; the second image is smaller, so it gets padded."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for index in range(number):
        height, width = size if index == 0 else (size[0] - 20, size[1] - 30)
        inputs.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator))
        corner = torch.rand(objects, 2, generator=generator) * torch.tensor([width * 0.5, height * 0.5])
        sides = 16 + torch.rand(objects, 2, generator=generator) * torch.tensor([width * 0.4, height * 0.4])
        boxes = torch.cat([corner, corner + sides], dim=1)
        instances = InstanceData(
            bboxes=HorizontalBoxes(boxes), labels=torch.randint(0, classes, (objects,), generator=generator)
        )
        if masks:
            filled = torch.zeros(objects, height, width, dtype=torch.uint8)
            for mask, (x1, y1, x2, y2) in zip(filled, boxes.int().tolist(), strict=True):
                mask[y1:y2, x1:x2] = 1
            instances.masks = BitmapMasks(filled.numpy(), height, width)
        meta = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0), img_id=index)
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = instances
        sample.ignored_instances = InstanceData(bboxes=HorizontalBoxes(torch.zeros(0, 4)), labels=torch.zeros(0).long())
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def batch_for(family, **kwargs):
    """A batch with all labels that a family learns from: masks, and a map of stuff."""
    data = batch(masks=family in (*WITH_MASKS, 'panoptic_fpn'), **kwargs)
    for sample in data['data_samples'] if family in ('htc', 'scnet', 'panoptic_fpn') else ():
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(1, *sample.img_shape, dtype=torch.long))
    return data


def in_rows(logits: torch.Tensor, images: int) -> torch.Tensor:
    """A tapped level (N * A, K, h, w) in the order of stock losses: (N * h * w * A, K)."""
    return logits.unflatten(0, (images, -1)).permute(0, 3, 4, 1, 2).reshape(-1, logits.shape[1])
