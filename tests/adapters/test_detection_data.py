"""Annotation files that stock mmdet would read without a word and train on wrongly."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest
from mmengine.registry import DATASETS, DefaultScope
from tiny_det import build, detector, distillation

from mmadm.adapters import build_adapter
from mmadm.adapters.detection import blank_samples
from mmadm.utils.errors import ConfigError

NAMES = ('cell', 'plate', 'dish')


def content(**changes) -> dict:
    """Two images of 60 x 40 pixels with a box each; category ids have gaps."""
    boxes = [[5, 5, 20, 10], [10, 0, 50, 40]]
    right = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=60, height=40) for i in (7, 8)],
        categories=[dict(id=3 * i + 1, name=name) for i, name in enumerate(NAMES)],
        annotations=[
            dict(id=i, image_id=7 + i, category_id=4, bbox=box, area=box[2] * box[3], iscrowd=0)
            for i, box in enumerate(boxes)
        ],
    )
    return {**right, **changes}


def annotated(**changes) -> dict:
    """The same with another first annotation."""
    found = content()
    found['annotations'][0].update(changes)
    return found


def dataset(folder: Path, written: dict | list, classes=NAMES, wrapper=None):
    """A stock data set over a file with this content."""
    (folder / 'boxes.json').write_text(json.dumps(written), encoding='utf-8')
    cfg = dict(
        type='CocoDataset', data_root=str(folder), ann_file='boxes.json', data_prefix=dict(img=''), pipeline=[],
        metainfo=dict(classes=classes), lazy_init=True,
    )  # fmt: skip
    if wrapper == 'RepeatDataset':
        cfg = dict(type='RepeatDataset', dataset=cfg, times=2, lazy_init=True)
    elif wrapper == 'ConcatDataset':
        cfg = dict(type='ConcatDataset', datasets=[cfg], lazy_init=True)
    elif wrapper == 'MultiImageMixDataset':
        cfg = dict(type='MultiImageMixDataset', dataset=dict(cfg, lazy_init=False), pipeline=[])
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(cfg)


@pytest.fixture(scope='module')
def model():
    return distillation('retinanet')


WRONG = [
    (annotated(category_id=5), 'annotation 0 has category_id 5, which is not among its categories [1, 4, 7]'),
    (annotated(image_id=5), 'annotation 0 belongs to image 5, which the file does not list'),
    (annotated(bbox=[60, 5, 5, 5]), 'annotation 0: bbox [60, 5, 5, 5] (x, y, width, height) lies outside its image'),
    (annotated(bbox=[5, 41, 5, 5]), 'lies outside its image of 60 x 40 pixels'),
    (annotated(bbox=[-9, 5, 9, 5]), 'lies outside its image'),
    (annotated(bbox=[5, -9, 9, 5]), 'lies outside its image'),
    (content(categories=[dict(id=1, name='cell'), dict(id=4, name='plates')]), "has no category 'plate'; did you mean"),
    (dict(images=[], annotations=[]), "not a COCO annotation file, 'categories' is missing"),
    (content(images=[dict(id=7, file_name='7.jpg')]), "not a COCO annotation file, 'width' is missing"),
    ([], 'not a COCO annotation file'),
]


@pytest.mark.parametrize(('written', 'message'), WRONG)
def test_a_file_that_cannot_be_right_is_named(model, tmp_path, written, message):
    with pytest.raises(ConfigError, match=rf'{re.escape(str(tmp_path))}/boxes\.json.*{re.escape(message)}'):
        model.check_data(dataset(tmp_path, written))


@pytest.mark.parametrize('wrapper', [None, 'RepeatDataset', 'ConcatDataset', 'MultiImageMixDataset'])
def test_a_data_set_is_found_inside_its_wrappers(model, tmp_path, wrapper):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model.check_data(dataset(tmp_path, content(), wrapper=wrapper))
    (tmp_path / 'wrong').mkdir()
    # boxes outside their image do not keep mmdet from loading the file
    with pytest.raises(ConfigError, match='lies outside its image'):
        model.check_data(dataset(tmp_path / 'wrong', annotated(bbox=[70, 5, 5, 5]), wrapper=wrapper))


def test_a_box_partly_outside_is_a_warning(model, tmp_path):
    with pytest.warns(UserWarning, match=r'boxes\.json: 1 of 2 boxes reach beyond their image'):
        model.check_data(dataset(tmp_path, annotated(bbox=[40, 5, 30, 20])))
    (tmp_path / 'rounded').mkdir()
    with warnings.catch_warnings():  # a pixel over is how some tools round
        warnings.simplefilter('error')
        model.check_data(dataset(tmp_path / 'rounded', annotated(bbox=[-1, -1, 62, 42])))


def test_a_class_that_is_trained_must_be_in_the_file_but_not_the_other_way_round(tmp_path):
    few = distillation(roles=dict(student=detector('retinanet', classes=2)))
    few.check_data(dataset(tmp_path, content(), classes=('dish', 'cell')))
    with pytest.raises(ConfigError, match="has no category 'cells'; did you mean 'cell'"):
        few.check_data(dataset(tmp_path, content(), classes=('dish', 'cells')))


@pytest.mark.parametrize('family', ['retinanet', 'faster', 'cascade', 'deformable'])
def test_another_number_of_classes_is_refused_for_every_kind_of_head(family, tmp_path):
    right = content()
    right['categories'].append(dict(id=99, name='lid'))
    four = dataset(tmp_path, right, classes=(*NAMES, 'lid'))
    roles = dict(student=detector(family, classes=4), teacher=detector(family, classes=3))
    message = r'model\.roles\.teacher: its head has num_classes=3, CocoDataset has 4 classes \(cell, plate'
    with pytest.raises(ConfigError, match=message):
        distillation(roles=roles).check_data(four)
    # a frozen role does not train on it
    distillation(roles=roles, frozen=['teacher']).check_data(four)


def test_blank_samples_have_what_stock_models_ask_for():
    (sample,) = blank_samples(1, (64, 96))
    assert sample.img_shape == sample.batch_input_shape == (64, 96)
    model = build(detector('retinanet')).eval()
    taps = build_adapter('student', model).probe(model, 64, ['feats']).taps['feats']
    assert [tuple(tap.shape[2:]) for tap in taps] == [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
