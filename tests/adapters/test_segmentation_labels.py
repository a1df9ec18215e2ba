"""Label maps as they reach the networks: what trains in stock MMSegmentation passes, what fails there is named."""

from __future__ import annotations

import random
import re
from copy import deepcopy
from pathlib import Path

import mmcv.transforms
import numpy as np
import pytest
import small_segmentors
import torch
from mmengine.dataset import pseudo_collate
from mmengine.fileio import LocalBackend, register_backend
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from PIL import Image

from mmadm.adapters.labels import check_labels
from mmadm.utils.errors import ConfigError

CE = dict(type='CrossEntropyLoss')
SIGMOID = dict(type='CrossEntropyLoss', use_sigmoid=True)


@TRANSFORMS.register_module()
class MapIds(mmcv.transforms.BaseTransform):
    """A user's own transform, with a generator and a state of its own."""

    def __init__(self, ids=()):
        self.ids = dict(ids)
        self.generator = np.random.default_rng(0)
        self.calls = 0

    def transform(self, results):
        self.calls += 1
        self.generator.random(), np.random.random(), random.random(), torch.rand(1)
        for old, new in self.ids.items():
            results['gt_seg_map'][results['gt_seg_map'] == old] = new
        return results


@pytest.fixture
def warnings_of(logged):
    """Messages of warnings."""
    return lambda: [record.getMessage() for record in logged.records if record.levelname == 'WARNING']


def write(folder: Path, *maps) -> Path:
    """Write an image for each list of label ids, whose label map has a row of each."""
    for kind in ('img', 'ann'):
        (folder / kind).mkdir(parents=True)
    for index, ids in enumerate(maps):
        labels = np.resize(np.array(ids, np.uint8), 32)[:, None].repeat(32, axis=1)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / f'img/{index}.jpg')
        Image.fromarray(labels).save(folder / f'ann/{index}.png')
    return folder


def config(folder: Path, *transforms, **options) -> dict:
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    return dict(
        type='BaseSegDataset', data_root=str(folder), data_prefix=dict(img_path='img', seg_map_path='ann'),
        pipeline=[*load, *transforms, dict(type='PackSegInputs')], **options,
    )  # fmt: skip


def built(cfg: dict):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build(cfg)


def segmentor(loss=CE, **head):
    cfg = small_segmentors.segmentor(2)
    cfg['decode_head'].update(loss_decode=loss, **head)
    return small_segmentors.build(cfg)


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
def five():
    return segmentor()


CASES = {
    'classes': ({}, [[0, 4, 255]], {}, True),
    'a wrong id': ({}, [[0, 9]], {}, False),
    'an id that another index ignores': (dict(ignore_index=9), [[0, 9]], {}, True),
    'a wrong ignored id': (dict(ignore_index=9), [[0, 255]], {}, False),
    'one class, sigmoid': (dict(num_classes=1, out_channels=1, loss=SIGMOID), [[0, 1, 255]], {}, True),
    'one class, sigmoid, three ids': (dict(num_classes=1, out_channels=1, loss=SIGMOID), [[0, 1, 2]], {}, False),
    'one class, softmax': (dict(num_classes=1, out_channels=1), [[0, 1]], {}, False),
    'two classes, one channel': (dict(num_classes=2, out_channels=1, loss=SIGMOID), [[0, 1]], {}, True),
    'two classes, two channels, sigmoid': (dict(num_classes=2, loss=SIGMOID), [[0, 1]], {}, True),
    'ids from 1': ({}, [[1, 5]], {}, False),
    'ids from 1, reduced': ({}, [[0, 1, 5]], dict(reduce_zero_label=True), True),
    'ids mapped by a transform': ({}, [[0, 9]], dict(ids=[(9, 2)]), True),
    'ids spoilt by a transform': ({}, [[0, 2]], dict(ids=[(2, 9)]), False),
    'an id that a loss takes for the last class': (dict(loss=dict(type='DiceLoss')), [[0, 9]], {}, True),
}


@pytest.mark.parametrize(('head', 'maps', 'data', 'right'), CASES.values(), ids=CASES)
def test_what_trains_in_stock_passes_and_nothing_else(head, maps, data, right, tmp_path, warnings_of):
    data = dict(data)
    own = dict(type='MapIds', ids=data.pop('ids', ()))
    dataset = built(config(write(tmp_path, *maps), own, **data))
    model = segmentor(**head)
    assert trains_in_stock(model, dataset) == right
    if right:
        check_labels(dict(student=model), dataset)
        assert bool(warnings_of()) == (head.get('loss', CE)['type'] != 'CrossEntropyLoss')
    else:
        with pytest.raises(ConfigError, match=rf'{re.escape(str(tmp_path))}/ann/0\.png: label ids \[\d'):
            check_labels(dict(student=model), dataset)


def test_the_error_names_the_ids_and_what_to_set(five, tmp_path):
    expected = (
        r'ann/1\.png: label ids \[9, 30\] are outside 0\.\.4 \(decode_head\.num_classes=5, ignore_index=255\)\. '
        r"Set decode_head\.num_classes, the data set's reduce_zero_label or the label files right; "
        r'model\.roles\.teacher cannot learn from it \(on a CPU: IndexError: Target \d+ is out of bounds'
    )
    with pytest.raises(ConfigError, match=expected):
        check_labels(dict(teacher=five), built(config(write(tmp_path, [0], [9, 30]))))


def test_an_id_that_a_loss_takes_is_told_once(tmp_path, warnings_of):
    dataset = built(config(write(tmp_path, [0, 9], [0, 9], [0, 8])))
    check_labels(dict(student=segmentor(dict(type='DiceLoss'))), dataset)
    first, second = warnings_of()
    assert 'ann/0.png: label ids [9] are outside' in first
    assert 'but model.roles.student learns from them without an error' in first
    assert 'ann/2.png: label ids [8] are outside' in second


def test_maps_of_which_everything_is_ignored_are_told(five, tmp_path, warnings_of):
    check_labels(dict(student=five), built(config(write(tmp_path, [255], [255]))))
    assert warnings_of() == ['None of the 2 training samples that were looked at has a labelled pixel.']


MOSAIC = [
    dict(type='RandomMosaic', prob=1.0, img_scale=(32, 32)),
    dict(type='MapIds'),
    dict(type='PackSegInputs'),
]


def wrapped(kind: str, folder: Path, *transforms) -> dict:
    """A wrapper around two parts, the second of which has a single image with id 9."""
    good, bad = write(folder / 'good', *[[0, 1]] * 80), write(folder / 'bad', [0, 9])
    both = dict(type='ConcatDataset', datasets=[config(good, *transforms), config(bad, *transforms)])
    if kind == 'MultiImageMixDataset':
        for part in both['datasets']:
            part['pipeline'].pop()
        return dict(type=kind, dataset=both, pipeline=MOSAIC)
    return dict(type='RepeatDataset', times=3, dataset=both) if kind == 'RepeatDataset' else both


@pytest.fixture(scope='module', params=['ConcatDataset', 'RepeatDataset', 'MultiImageMixDataset'])
def wrapper(request, tmp_path_factory):
    return built(wrapped(request.param, tmp_path_factory.mktemp('data'), dict(type='MapIds')))


def test_a_small_part_inside_wrappers_is_looked_at(wrapper, five):
    with pytest.raises(ConfigError, match=r'label ids \[9\] are outside'):
        check_labels(dict(student=five), wrapper)


def transforms_in(dataset):
    for part in [dataset, *getattr(dataset, 'datasets', [])]:
        pipeline = getattr(part, 'pipeline', [])
        yield from (t for t in getattr(pipeline, 'transforms', pipeline) if isinstance(t, MapIds))
    if hasattr(dataset, 'dataset'):
        yield from transforms_in(dataset.dataset)


def test_no_generator_moves_and_no_transform_keeps_a_state(wrapper):
    model = segmentor(num_classes=10)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    check_labels(dict(student=model), wrapper)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1][1])
    assert np.random.get_state()[2:] == before[1][2:]
    assert torch.equal(torch.get_rng_state(), before[2])
    found = list(transforms_in(wrapper))
    assert len(found) >= 2
    assert {transform.calls for transform in found} == {0}
    fresh = np.random.default_rng(0).bit_generator.state
    assert all(transform.generator.bit_generator.state == fresh for transform in found)


class Drawer(LocalBackend):
    """A storage in which every path begins with another folder."""

    root = ''

    def get(self, filepath):
        return super().get(f'{self.root}/{filepath}')

    def list_dir_or_file(self, dir_path, *options):
        return super().list_dir_or_file(f'{self.root}/{dir_path}', *options)


def test_labels_in_another_storage_are_judged(five, tmp_path):
    register_backend('drawer', Drawer, force=True)
    Drawer.root = str(write(tmp_path, [9]))
    cfg = config('', backend_args=dict(backend='drawer'))
    for step in cfg['pipeline'][:2]:
        step['backend_args'] = dict(backend='drawer')
    with pytest.raises(ConfigError, match=r'^ann/0\.png: label ids \[9\] are outside'):
        check_labels(dict(student=five), built(cfg))


class OwnDataset(torch.utils.data.Dataset):
    """What a user may write: no stock class, no file names."""

    def __init__(self, ids):
        self.ids = ids
        self.generator = torch.Generator()

    def __len__(self):
        return 1

    def __getitem__(self, index):
        torch.rand(1, generator=self.generator)
        item = {key: value[0] for key, value in small_segmentors.batch(1).items()}
        item['data_samples'].gt_sem_seg.data[:] = self.ids[index]
        return item


def test_a_data_set_of_the_users_own_is_judged(five):
    dataset = OwnDataset([4])
    before = dataset.generator.get_state()
    check_labels(dict(student=five), dataset)
    assert torch.equal(dataset.generator.get_state(), before)
    with pytest.raises(ConfigError, match=r'^sample 0 of OwnDataset: label ids \[9\] are outside'):
        check_labels(dict(student=five), OwnDataset([9]))


def test_a_sample_that_cannot_be_read_is_left_to_the_training(five, tmp_path, warnings_of):
    dataset = built(config(write(tmp_path, [0], [1])))
    (tmp_path / 'ann/1.png').unlink()
    check_labels(dict(student=five), dataset)
    (told,) = warnings_of()
    assert told.startswith('The labels of BaseSegDataset are not checked: FileNotFoundError: ')
    assert 'ann/1.png' in told
