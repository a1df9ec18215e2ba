"""What is read out of a checkpoint's meta data, and that nothing in them is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from mmadm.engine.provenance import normalisation, recorded_classes, recorded_normalisation, same_values

PREPROCESSOR = dict(type='SegDataPreProcessor', mean=[1, 2.5, 3], std=[4.0, 5.0, 6.0], bgr_to_rgb=True)
RIGHT = dict(mean=(1.0, 2.5, 3.0), std=(4.0, 5.0, 6.0), bgr_to_rgb=True)


def meta(role=None, **cfg):
    """Meta data with a config as mmengine writes it."""
    return {'cfg': Config(cfg).pretty_text, **({'role': role} if role else {})}


@pytest.mark.parametrize(
    'found',
    [
        meta(model=dict(type='A', data_preprocessor=PREPROCESSOR)),
        meta(model=dict(type='A'), data_preprocessor=PREPROCESSOR),
        # the name with a dot makes mmengine write {...} instead of dict(...)
        meta(model={'type': 'A', 'a.b': 1, 'data_preprocessor': PREPROCESSOR}),
        meta('b', model=dict(roles=dict(a=dict(type='A'), b=dict(type='A', data_preprocessor=PREPROCESSOR)))),
        meta('b', model=dict(roles=dict(b=dict(cfg=dict(type='A', data_preprocessor=PREPROCESSOR), checkpoint='x')))),
        meta('b', model=dict(roles=dict(b=dict(type='A')), data_preprocessor=PREPROCESSOR)),
    ],
)
def test_the_recorded_normalisation_is_that_of_the_preprocessor(found):
    assert recorded_normalisation(found) == RIGHT == normalisation(PREPROCESSOR)


def test_the_config_file_of_a_role_is_followed():
    found = recorded_normalisation(
        meta('t', model=dict(roles=dict(t=dict(cfg='mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'))))
    )
    assert found == dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), bgr_to_rgb=True)


@pytest.mark.parametrize(
    'found',
    [
        {},
        dict(cfg=None),
        dict(cfg='model = ('),
        meta(model=dict(type='A')),
        meta('c', model=dict(roles=dict(b=dict(type='A', data_preprocessor=PREPROCESSOR)))),
        meta('b', model=dict(roles=dict(b=dict(cfg='nowhere.py')))),
        dict(cfg='model = dict(data_preprocessor=dict(mean=load()))'),
    ],
)
def test_nothing_is_said_of_what_was_not_recorded(found):
    assert recorded_normalisation(found) is None


def test_the_recorded_config_is_not_run(tmp_path):
    trap = tmp_path / 'trap'
    text = f'model = dict(data_preprocessor=dict(mean=open({str(trap)!r}, "w")))\nopen({str(trap)!r}, "w")'
    assert recorded_normalisation(dict(cfg=text)) is None
    assert not Path(trap).exists()


def test_a_preprocessor_that_normalises_nothing():
    assert normalisation({}) == dict(mean=None, std=None, bgr_to_rgb=False)
    assert normalisation(dict(rgb_to_bgr=True))['bgr_to_rgb']


@pytest.mark.parametrize(
    ('one', 'other', 'same'),
    [
        ((103.53, 116.28), (103.5, 116.3), True),
        ((58.0,), (57.0,), False),
        ((0.0,), (0.0,), True),
        ((1.0,), None, False),
        (None, None, True),
        ((1.0,), (1.0, 1.0), False),
        (True, False, False),
    ],
)
def test_values_are_the_same_within_a_percent(one, other, same):
    assert same_values(one, other) is same


def test_classes_by_all_names_that_toolboxes_have_used():
    assert recorded_classes(dict(dataset_meta=dict(classes=['a', 'b']))) == ('a', 'b')
    assert recorded_classes(dict(dataset_meta=dict(CLASSES=('a',)))) == ('a',)
    assert recorded_classes(dict(CLASSES='a')) == ('a',)
    assert recorded_classes(dict(dataset_meta=dict(palette=[]))) is None
    assert recorded_classes({}) is None
    assert recorded_classes(dict(dataset_meta='none')) is None
