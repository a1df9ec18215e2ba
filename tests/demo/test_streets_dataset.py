"""The generated streets as a data set of mmseg, and what it says when they are not there."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmadm.registry import DATASETS
from mmadm.utils.errors import ConfigError

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]


def build(type='mmadm.StreetsDataset', **cfg):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build(dict(type=type, **cfg))


def write_image(path: Path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def streets(tmp_path) -> Path:
    """A finished folder of generated streets, with one image that shows road, car and an ignored pixel."""
    write_image(tmp_path / 'leftImg8bit/val/town/town_000000_000000_leftImg8bit.png', np.full((2, 3, 3), 9, np.uint8))
    labels = np.array([[0, 13, 255], [0, 0, 0]], np.uint8)
    write_image(tmp_path / 'gtFine/val/town/town_000000_000000_gtFine_labelTrainIds.png', labels)
    (tmp_path / 'meta.json').write_text(json.dumps(dict()))
    return tmp_path


STREETS_PREFIX = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')


def test_streets_have_the_ids_and_colours_of_cityscapes(streets):
    dataset = build(data_root=str(streets), data_prefix=STREETS_PREFIX, pipeline=LOAD)
    assert dataset[0]['gt_seg_map'].tolist() == [[0, 13, 255], [0, 0, 0]]
    assert len(dataset.metainfo['classes']) == 19
    assert dataset.metainfo['classes'][13] == 'car'
    assert dataset.metainfo['palette'][13] == [0, 0, 142]


def test_unfinished_streets_are_refused(streets):
    (streets / 'meta.json').unlink()
    with pytest.raises(ConfigError, match=r'generation was not finished.*tools/make_streets.py'):
        build(data_root=str(streets), data_prefix=STREETS_PREFIX)


def test_missing_streets_say_how_to_make_them(tmp_path):
    with pytest.raises(ConfigError, match=r'leftImg8bit/val. does not exist.*tools/make_streets.py'):
        build(data_root=str(tmp_path), data_prefix=STREETS_PREFIX)


def test_base_configs_read_the_folder_in_the_environment(repo_root, tmp_path, monkeypatch):
    monkeypatch.setenv('MMADM_DATA', str(tmp_path))
    cfg = Config.fromfile(repo_root / 'configs/_base_/datasets/streets.py')
    for part in ('train', 'val', 'test'):
        dataset = cfg[f'{part}_dataloader'].dataset
        assert dataset.data_root == f'{tmp_path}/streets'
        with pytest.raises(ConfigError, match=re.escape(f'{tmp_path}/streets/')):
            build(**dataset)
