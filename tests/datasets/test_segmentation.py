"""CamVid as a data set: what it reads, and what it says when there is nothing to read."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmadm.registry import DATASETS
from mmadm.utils.errors import ConfigError

PREFIX = dict(img_path='images', seg_map_path='annotations')
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
CAMVID_IDS = dict(
    Sky=0, Building=1, Pole=2, Road=3, Pavement=4, Tree=5, SignSymbol=6, Fence=7, Car=8, Pedestrian=9, Bicyclist=10
)  # fmt: skip


def build(type='mmadm.CamVidDataset', **cfg):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build(dict(type=type, **cfg))


def write_image(path: Path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def camvid(tmp_path) -> Path:
    """A CamVid folder of three images; image k is plain grey 40 * k, its labels are k, its last row is void."""
    for value, name in enumerate(('train/a', 'train/b', 'test/c')):
        write_image(tmp_path / f'images/{name}.jpg', np.full((4, 6, 3), 40 * value, np.uint8))
        labels = np.full((4, 6), value, np.uint8)
        labels[-1] = 255
        write_image(tmp_path / f'annotations/{name}.png', labels)
    (tmp_path / 'splits').mkdir()
    (tmp_path / 'splits/blocked_train.txt').write_text('train/b\ntest/c\n\n')
    (tmp_path / 'splits/train.txt').write_text('a\nb\n')
    return tmp_path


def read(dataset):
    return [(Path(item['img_path']).stem, int(item['img'][0, 0, 0]), item['gt_seg_map']) for item in dataset]


def test_camvid_reads_images_and_labels_across_folders(camvid):
    dataset = build(data_root=str(camvid), ann_file='splits/blocked_train.txt', data_prefix=PREFIX, pipeline=LOAD)
    items = read(dataset)
    assert [(name, grey) for name, grey, _ in items] == [('b', 40), ('c', 80)]
    for value, (_, _, labels) in enumerate(items, start=1):
        assert labels[:3].tolist() == [[value] * 6] * 3
        assert labels[3].tolist() == [255] * 6


def test_camvid_reads_the_original_split_by_stem(camvid):
    prefix = dict(img_path='images/train', seg_map_path='annotations/train')
    dataset = build(data_root=str(camvid), ann_file='splits/train.txt', data_prefix=prefix, pipeline=LOAD)
    assert [(name, grey) for name, grey, _ in read(dataset)] == [('a', 0), ('b', 40)]


def test_camvid_classes_and_colours():
    dataset = build(lazy_init=True)
    classes, palette = dataset.metainfo['classes'], dataset.metainfo['palette']
    assert {name: classes.index(name) for name in CAMVID_IDS} == CAMVID_IDS
    assert len(classes) == len(palette) == 11
    assert dict(zip(classes, palette, strict=True))['Pavement'] == [60, 40, 222]
    assert (dataset.reduce_zero_label, dataset.ignore_index) == (False, 255)


def test_labels_may_be_left_out(camvid):
    dataset = build(data_root=str(camvid), data_prefix=dict(img_path='images/train'), pipeline=LOAD[:1])
    assert [int(item['img'][0, 0, 0]) for item in dataset] == [0, 40]


def failing(camvid, **cfg):
    with pytest.raises(ConfigError) as caught:
        build(**{**dict(data_root=str(camvid), data_prefix=PREFIX, ann_file='splits/blocked_train.txt'), **cfg})
    return str(caught.value)


@pytest.mark.parametrize(
    ('cfg', 'found'),
    [
        (dict(data_root='/nowhere'), "the split file '/nowhere/splits/blocked_train.txt' does not exist"),
        (dict(data_root='/nowhere', ann_file=''), "the image folder '/nowhere/images' does not exist"),
        (dict(ann_file='splits/no.txt'), r"the split file '.*/splits/no.txt' does not exist"),
        (dict(ann_file='splits/empty.txt'), 'no image was found'),
        (dict(ann_file='splits/blank.txt'), 'no image was found'),
        (dict(ann_file='', img_suffix='.bmp'), 'no image was found'),
        (dict(ann_file='splits/empty.txt', serialize_data=False), 'no image was found'),
        (
            dict(data_prefix=dict(img_path='images/train', seg_map_path='annotations/train')),
            r"2 of 2 images are missing, first '.*/images/train/train/b.jpg'",
        ),
        (dict(ann_file='splits/wrong.txt'), r"1 of 2 images are missing, first '.*/images/val/b.jpg'"),
        (dict(seg_map_suffix='_L.png'), r"2 of 2 label maps are missing, first '.*/annotations/train/b_L.png'"),
    ],
)
def test_missing_data_is_named_at_once(camvid, cfg, found):
    (camvid / 'splits/empty.txt').write_text('')
    (camvid / 'splits/blank.txt').write_text('\n\n')
    (camvid / 'splits/wrong.txt').write_text('train/a\nval/b\n')
    message = failing(camvid, **cfg)
    assert re.search(f'^CamVidDataset: {found}', message), message
    for wanted in ('data_root=', 'ann_file=', 'data_prefix=', 'MMADM_DATA'):
        assert wanted in message


def test_lazy_init_reads_nothing_until_asked(tmp_path):
    dataset = build(data_root=str(tmp_path / 'nowhere'), data_prefix=PREFIX, lazy_init=True)
    with pytest.raises(ConfigError, match='image folder'):
        len(dataset)


def test_base_configs_read_the_folder_in_the_environment(repo_root, tmp_path, monkeypatch):
    monkeypatch.setenv('MMADM_DATA', str(tmp_path))
    cfg = Config.fromfile(repo_root / 'configs/_base_/datasets/camvid.py')
    for part in ('train', 'val', 'test'):
        dataset = cfg[f'{part}_dataloader'].dataset
        assert dataset.data_root == f'{tmp_path}/camvid'
        with pytest.raises(ConfigError, match=re.escape(f'{tmp_path}/camvid/')):
            build(**dataset)
