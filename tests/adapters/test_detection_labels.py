"""Objects as they reach the networks: what trains in stock MMDetection passes, and what it drops is told."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.fileio import LocalBackend, register_backend
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from mmengine.structures import PixelData
from PIL import Image
from small_detectors import batch, build, detector, distillation, narrow
from torch import nn

from mmadm.adapters.labels import check_labels
from mmadm.utils.config import role_model_cfg, without_pretrained
from mmadm.utils.errors import ConfigError

NAMES = ('cell', 'plate', 'dish')
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
PACK = dict(type='PackDetInputs')


@pytest.fixture
def warnings_of(logged):
    """Messages of warnings."""
    return lambda: [record.getMessage() for record in logged.records if record.levelname == 'WARNING']


def content(names=NAMES, images=2) -> dict:
    """Images of 60 x 40 pixels with an object of the second class each; category ids have gaps."""
    return dict(
        images=[dict(id=7 + i, file_name=f'{i}.jpg', width=60, height=40) for i in range(images)],
        categories=[dict(id=3 * i + 1, name=name) for i, name in enumerate(names)],
        annotations=[annotation(i, 7 + i) for i in range(images)],
    )


def annotation(number: int, image: int = 7, **changes) -> dict:
    right = dict(id=number, image_id=image, category_id=4, bbox=[5, 5, 20, 10], area=200, iscrowd=0)
    return {**right, **changes}


def config(folder: Path, written: dict, classes=NAMES, pipeline=(*LOAD, PACK), **options) -> dict:
    """A stock data set over a file with this content."""
    folder.mkdir(exist_ok=True)
    (folder / 'boxes.json').write_text(json.dumps(written), encoding='utf-8')
    for image in written['images']:
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / image['file_name'])
    return dict(
        type='CocoDataset', data_root=str(folder), ann_file='boxes.json', data_prefix=dict(img=''),
        pipeline=list(pipeline), metainfo=dict(classes=classes), **options,
    )  # fmt: skip


def built(cfg: dict):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(cfg)


def trains_in_stock(model, dataset) -> bool:
    """Whether a training step of the stock model runs on every image."""
    model = deepcopy(model)
    for item in (dataset[index] for index in range(len(dataset))):
        try:
            model(**model.data_preprocessor(pseudo_collate([item, item]), True), mode='loss')
        except (IndexError, RuntimeError, AssertionError):
            return False
    return True


@pytest.fixture(scope='module')
def retinanet():
    return build(detector('retinanet'))


@pytest.mark.parametrize(
    ('family', 'label'),
    [
        ('retinanet', 2),
        *((family, label) for family in ('retinanet', 'gfl', 'faster', 'deformable') for label in (3, 5)),
    ],
)
def test_what_trains_in_stock_passes_and_nothing_else(family, label, tmp_path, warnings_of):
    names = (*NAMES, 'lid', 'jar', 'cup')
    written = content(names)
    written['annotations'][1]['category_id'] = 3 * label + 1
    dataset = built(config(tmp_path, written, names))
    model = build(ConfigDict(detector(family)))
    right = trains_in_stock(model, dataset)
    key = 'roi_head.bbox_head' if family == 'faster' else 'bbox_head'
    told = rf'/1\.jpg: label ids \[{label}\] are outside 0\.\.2 \({key}\.num_classes=3\)'
    if right:
        check_labels(dict(student=model), dataset)
        assert [bool(re.search(told, text)) for text in warnings_of()] == ([True] if label > 2 else [])
    else:
        with pytest.raises(ConfigError, match=rf'{told}\. Set .* metainfo\.classes or .*/boxes\.json right'):
            check_labels(dict(student=model), dataset)


def test_a_frozen_role_is_not_asked(tmp_path):
    dataset = built(config(tmp_path, content((*NAMES, 'lid')), (*NAMES, 'lid')))
    roles = dict(student=detector('deformable', classes=4), teacher=detector('deformable', classes=1))
    distillation(roles=roles, frozen=['teacher']).check_data(dataset)
    with pytest.raises(ConfigError, match=r'label ids \[1\] are outside 0\.\.0 .*model\.roles\.teacher cannot learn'):
        distillation(roles=roles).check_data(dataset)


def test_what_mmdet_leaves_out_is_counted_and_no_error(retinanet, tmp_path, warnings_of):
    written = content()
    written['annotations'] += [
        annotation(10, ignore=True),
        annotation(11, area=0),
        annotation(12, bbox=[5, 5, 20, 0.5]),
        annotation(13, bbox=[60, 5, 5, 5]),
        annotation(14, bbox=[5, -9, 9, 5]),
        annotation(15, iscrowd=1, category_id=7),
        annotation(16, category_id=5),
        annotation(17, category_id=99),
        annotation(18, bbox=[40, 5, 30, 20]),
        annotation(19, bbox=[-1, -1, 62, 42]),
    ]
    dataset = built(config(tmp_path, written))
    assert trains_in_stock(retinanet, dataset)
    check_labels(dict(student=retinanet), dataset)
    file = f'{tmp_path}/boxes.json'
    assert warnings_of() == [
        f'1 of 4 boxes reach beyond their image, such as [40, 5, 70, 25] of {tmp_path}/0.jpg: are they stored as the '
        'format wants them (COCO: x, y, width, height)?',
        f'{file}: 2 annotations are left out, of categories [5, 99] that are not trained.',
        f'{file}: 5 of the 10 annotations of 2 images that were looked at are left out: marked to be ignored, without '
        'area or off their image.',
    ]


@TRANSFORMS.register_module()
class SpoilBoxes(BaseTransform):
    """A user's own transform that moves a box off the image and takes the area of another."""

    def transform(self, results):
        results['gt_bboxes'].tensor[0] += 60
        results['gt_bboxes'].tensor[1, 2] = results['gt_bboxes'].tensor[1, 0]
        return results


def test_boxes_that_a_transform_spoils_are_counted(retinanet, tmp_path, warnings_of):
    written = content(images=1)
    written['annotations'] += [annotation(1), annotation(2)]
    dataset = built(config(tmp_path, written, pipeline=(*LOAD, dict(type='SpoilBoxes'), PACK)))
    check_labels(dict(student=retinanet), dataset)
    assert warnings_of() == [
        f'2 boxes have no area or lie off the image after the transforms, the first of {tmp_path}/0.jpg.'
    ]


def test_a_class_that_the_file_lacks_is_told(tmp_path, warnings_of):
    two = build(detector('retinanet', classes=2))
    check_labels(dict(student=two), built(config(tmp_path, content(), classes=('dish', 'plates'))))
    assert warnings_of()[:2] == [
        'None of the 2 training samples that were looked at has an object to learn.',
        f"{tmp_path}/boxes.json has only 1 of the 2 metainfo.classes ['dish', 'plates']; mmdet numbers those that the "
        'file has, so ids may stand for others.',
    ]


@pytest.mark.parametrize('wrapper', ['ConcatDataset', 'RepeatDataset', 'ClassBalancedDataset', 'MultiImageMixDataset'])
def test_a_data_set_is_found_inside_its_wrappers(wrapper, tmp_path):
    written, names = content((*NAMES, 'lid', 'jar')), (*NAMES, 'lid', 'jar')
    written['annotations'][1]['category_id'] = 13
    part = config(tmp_path, written, names)
    cfg = {
        'ConcatDataset': dict(datasets=[part, part]),
        'RepeatDataset': dict(dataset=part, times=2),
        'ClassBalancedDataset': dict(dataset=part, oversample_thr=0.5),
        'MultiImageMixDataset': dict(
            dataset=dict(part, pipeline=LOAD), pipeline=[dict(type='Mosaic', img_scale=(60, 40)), PACK]
        ),
    }[wrapper]
    with pytest.raises(ConfigError, match=r'jpg: label ids \[4\] are outside 0\.\.2'):
        check_labels(dict(student=build(detector('retinanet'))), built(dict(type=wrapper, **cfg)))


class Drawer(LocalBackend):
    """A storage in which every path begins with another folder."""

    root = ''

    def get(self, filepath):
        return super().get(f'{self.root}/{filepath}')

    def get_local_path(self, filepath):
        return super().get_local_path(f'{self.root}/{filepath}')


def test_annotations_in_another_storage_are_judged(retinanet, tmp_path):
    register_backend('drawer_of_boxes', Drawer, force=True)
    Drawer.root, backend = str(tmp_path), dict(backend='drawer_of_boxes')
    written = content((*NAMES, 'lid', 'jar'))
    written['annotations'][1]['category_id'] = 13
    load = (dict(LOAD[0], backend_args=backend), LOAD[1], PACK)
    cfg = config(tmp_path, written, (*NAMES, 'lid', 'jar'), load, backend_args=backend)
    with pytest.raises(ConfigError, match=r'^1\.jpg: label ids \[4\] are outside .*or boxes\.json right'):
        check_labels(dict(student=retinanet), built(dict(cfg, data_root='')))


def test_a_panoptic_file_is_understood(tmp_path, warnings_of):
    written = content(images=1)
    for category in written['categories']:
        category['isthing'] = int(category['name'] != 'dish')
    segment = dict(iscrowd=0, area=400, bbox=[5, 5, 20, 20])
    segments = [dict(segment, id=1, category_id=4), dict(segment, id=2, category_id=7)]
    written['annotations'] = [dict(image_id=7, file_name='0.png', segments_info=segments)]
    cfg = dict(config(tmp_path, written), type='CocoPanopticDataset')
    cfg['metainfo'].update(thing_classes=NAMES[:2], stuff_classes=NAMES[2:])
    dataset = built(cfg)
    # of the three classes a head of boxes learns the things
    assert dataset[0]['data_samples'].gt_instances.labels.tolist() == [1]
    check_labels(dict(student=build(detector('retinanet', classes=2))), dataset)
    assert warnings_of() == []


class One:
    """A data set of one packed item."""

    def __init__(self, item):
        self.item = item

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return deepcopy(self.item)


@pytest.fixture(scope='module')
def panoptic():
    """A PanopticFPN of two things and three kinds of stuff, and an image that shows them."""
    cfg = without_pretrained(role_model_cfg(dict(cfg='mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py')))
    narrow(cfg, 4, 2)
    cfg['semantic_head'].update(
        num_things_classes=2, num_stuff_classes=3, in_channels=32, inner_channels=8,
        norm_cfg=dict(type='GN', num_groups=4),
    )  # fmt: skip
    cfg['panoptic_fusion_head'].update(num_things_classes=2, num_stuff_classes=3)
    made = batch(1, classes=2, masks=True)
    return build(ConfigDict(cfg)), dict(inputs=made['inputs'][0], data_samples=made['data_samples'][0])


@pytest.mark.parametrize('label', [4, 255, 5])
def test_the_semantic_map_of_a_panoptic_network_is_judged(panoptic, label, warnings_of):
    """Things come first, then stuff; 255 is void."""
    model, item = panoptic
    item = deepcopy(item)
    labels = torch.zeros(1, *item['inputs'].shape[1:], dtype=torch.long)
    labels[:, :40] = label
    item['data_samples'].gt_sem_seg = PixelData(sem_seg=labels)
    if label == 5:
        with pytest.raises(
            ConfigError, match=r'ids \[5\] are outside 0\.\.4 \(semantic_head\.num_things_classes \+ num'
        ):
            check_labels(dict(student=model), One(item))
    else:
        check_labels(dict(student=model), One(item))
    assert warnings_of() == []


def test_a_network_that_takes_any_semantic_map_is_told_of_a_strange_one(panoptic, warnings_of):
    """MaskFormer leaves out what is no class, without a word."""
    model, item = nn.Module(), deepcopy(panoptic[1])
    model.panoptic_head = nn.Module()
    model.panoptic_head.num_things_classes, model.panoptic_head.num_stuff_classes = 2, 3
    model.data_preprocessor, model.forward = (lambda data, training: data), (lambda *_, **__: {})
    item['data_samples'].gt_sem_seg = PixelData(sem_seg=torch.full((1, 96, 128), 9))
    check_labels(dict(student=model), One(item))
    (warning,) = warnings_of()
    assert 'label ids [9] are outside 0..4 (panoptic_head.num_things_classes + num_stuff_classes=5' in warning
