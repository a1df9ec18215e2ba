"""Stock training configs of both toolboxes as files: whole but for a narrow network, small images and few of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import small_detectors
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from mmadm.cli.config_text import statement
from mmadm.utils.config import resolve_config, without_pretrained

#: By a short name: the config, and the class of its detector's or segmentor's parts that is told apart by it
STOCK = dict(
    pspnet='mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    deeplabv3plus='mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    segformer='mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    upernet_swin='mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py',
    upernet_beit='mmseg::beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py',
    mask2former='mmseg::mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py',
    retinanet='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    faster_rcnn='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    fcos='mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    atss='mmdet::atss/atss_r50_fpn_1x_coco.py',
    rtmdet='mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    yolox='mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
    dino='mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
)
#: Keys whose numbers are sides of images in pixels
_SIDES = {'scale', 'scales', 'crop_size', 'size', 'img_scale', 'max_size', 'random_size_range', 'border', 'pad_size'}
_SHRINK = 0.14


def write_data(folder: Path) -> Path:
    """Write four images for training and two for validation in the layouts of Cityscapes, ADE20K and COCO."""
    rng = np.random.default_rng(0)
    for split, number, ade, coco in (('train', 4, 'training', 'train2017'), ('val', 2, 'validation', 'val2017')):
        places = dict(
            city=(f'cityscapes/leftImg8bit/{split}', '_leftImg8bit.png', f'cityscapes/gtFine/{split}'),
            ade=(f'ade/ADEChallengeData2016/images/{ade}', '.jpg', f'ade/ADEChallengeData2016/annotations/{ade}'),
            coco=(f'coco/{coco}', '.jpg', 'coco/annotations'),
        )
        images, boxes = [], []
        for index in range(number):
            image = rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)
            labels = np.zeros((64, 128), dtype=np.uint8)
            for kind in range(3):
                y, x = int(rng.integers(0, 32)), int(rng.integers(0, 90))
                labels[y : y + 30, x : x + 36] = kind + 1
                image[y : y + 30, x : x + 36] = (70 * kind, 200, 30)
                box = dict(bbox=[x, y, 36, 30], area=1080, iscrowd=0, category_id=kind + 1)
                box['segmentation'] = [[x, y, x + 36, y, x + 36, y + 30, x, y + 30]]
                boxes.append(dict(box, id=len(boxes) + 1, image_id=index))
            images.append(dict(id=index, file_name=f'{index}.jpg', height=64, width=128))
            for where, ending, truth in places.values():
                for path in (folder / where, folder / truth):
                    path.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / where / f'{index}{ending}'), image)
            cv2.imwrite(str(folder / places['city'][2] / f'{index}_gtFine_labelTrainIds.png'), labels)
            cv2.imwrite(str(folder / places['ade'][2] / f'{index}.png'), labels)
        categories = [dict(id=index + 1, name=name) for index, name in enumerate(CocoDataset.METAINFO['classes'])]
        text = json.dumps(dict(images=images, annotations=boxes, categories=categories))
        (folder / f'coco/annotations/instances_{coco}.json').write_text(text)
    return folder


def write_stock_config(kind: str, width: int, data: Path, file: Path) -> Path:
    """Write a stock training config with a narrow network of ``width`` base channels, for the data in a folder."""
    cfg = Config.fromfile(resolve_config(STOCK[kind]))
    cfg.model = without_pretrained(cfg.model.to_dict())
    plain = _small(cfg.to_dict())
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        plain[loader].update(num_workers=0, persistent_workers=False, batch_size=min(2, plain[loader]['batch_size']))
    plain = _moved(plain, data)
    narrow(kind, plain['model'], width)
    file.write_text(''.join(statement(key, value) for key, value in plain.items()))
    return file


def narrow(kind: str, model: dict[str, Any], width: int) -> None:
    """Make a stock network narrow, in place."""
    backbone, head = model['backbone'], model.get('decode_head', model.get('bbox_head'))
    aside = model.get('auxiliary_head')
    if kind in ('pspnet', 'deeplabv3plus'):
        backbone.update(depth=18, base_channels=width, stem_channels=width)
        head.update(in_channels=8 * width, channels=8)
        aside.update(in_channels=4 * width, channels=8)
        if 'c1_in_channels' in head:
            head.update(c1_in_channels=width, c1_channels=4)
    elif kind == 'segformer':
        backbone.update(embed_dims=width, num_layers=[1, 1, 1, 1])
        head.update(in_channels=[width * heads for heads in backbone['num_heads']], channels=8)
    elif kind == 'upernet_swin':
        backbone.update(embed_dims=width, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4])
        head.update(in_channels=[width * 2**stage for stage in range(4)], channels=8)
        aside.update(in_channels=4 * width, channels=8)
    elif kind == 'upernet_beit':
        backbone.update(embed_dims=4 * width, num_layers=4, num_heads=2, out_indices=[0, 1, 2, 3], img_size=(96, 96))
        model['neck'].update(embed_dim=4 * width)
        head.update(in_channels=[4 * width] * 4, channels=8, num_classes=150)
        aside.update(in_channels=4 * width, channels=8)
    elif kind == 'mask2former':
        backbone.update(depth=18, base_channels=width, stem_channels=width)
        _narrow_masks(head, width)
    elif kind == 'rtmdet':
        backbone.update(deepen_factor=0.17, widen_factor=width / 32)
        model['neck'].update(in_channels=[8 * width, 16 * width, 32 * width], out_channels=32, num_csp_blocks=1)
        head.update(in_channels=32, feat_channels=32)
    elif kind == 'yolox':
        backbone.update(deepen_factor=0.33, widen_factor=width / 64)
        model['neck'].update(in_channels=[4 * width, 8 * width, 16 * width], out_channels=32, num_csp_blocks=1)
        head.update(in_channels=32, feat_channels=32)
    else:
        small_detectors.narrow(model, width, 80)


def _narrow_masks(head: dict[str, Any], width: int) -> None:
    head.update(in_channels=[width, 2 * width, 4 * width, 8 * width], feat_channels=32, out_channels=32, num_queries=8)
    decoder, pixels = head['transformer_decoder'], head['pixel_decoder']
    decoder['num_layers'] = 2
    for part, name in ((decoder, 'layer_cfg'), (pixels['encoder'], 'layer_cfg')):
        layer = part[name]
        layer['self_attn_cfg'].update(embed_dims=32, num_heads=4)
        layer['ffn_cfg'].update(embed_dims=32, feedforward_channels=32)
    decoder['layer_cfg']['cross_attn_cfg'].update(embed_dims=32, num_heads=4)
    pixels['encoder']['num_layers'] = 1
    for encoding in (head['positional_encoding'], pixels['positional_encoding']):
        encoding['num_feats'] = 16
    head['train_cfg']['num_points'] = 64


def _small(node: Any, sides: bool = False) -> Any:
    """Shrink sides of images wherever they stand, but not in heads."""
    if isinstance(node, dict):
        return {
            key: value if key in ('backbone', 'neck', 'bbox_head', 'decode_head') else _small(value, key in _SIDES)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return type(node)(_small(item, sides) for item in node)
    if sides and isinstance(node, int) and not isinstance(node, bool) and abs(node) >= 200:
        return 32 * max(1, round(node * _SHRINK / 32))
    return node


def _moved(node: Any, data: Path) -> Any:
    """Point paths below ``data/`` to a folder."""
    if isinstance(node, dict):
        return {key: _moved(value, data) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_moved(item, data) for item in node)
    return f'{data}/{node.removeprefix("data/")}' if isinstance(node, str) and node.startswith('data/') else node
