"""Every role gets, tensor for tensor, what its own preprocessor makes of the same batch."""

from __future__ import annotations

import random
from copy import deepcopy

import numpy as np
import pytest
import small_detectors
import small_segmentors
import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope

from mmadm.algorithms.preprocessor import RolePreprocessor

DETECTION = dict(
    student=dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True, pad_size_divisor=32),
    teacher=dict(mean=[90.0, 100.0, 110.0], std=[1.0, 2.0, 3.0], bgr_to_rgb=False, pad_size_divisor=48, pad_value=7),
    twin=dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True, pad_size_divisor=32),
)
SEGMENTATION = dict(
    student=dict(mean=[120.0] * 3, std=[58.0] * 3, bgr_to_rgb=True, size_divisor=32, seg_pad_val=255),
    teacher=dict(mean=[1.0, 2.0, 3.0], std=[30.0] * 3, bgr_to_rgb=False, size=(48, 40), pad_val=7, seg_pad_val=9),
)


def built(cfgs: dict[str, dict], kind: str, **options) -> dict:
    """One module for each role, as it stands in its stock model."""
    with DefaultScope.overwrite_default_scope('mmseg' if kind.startswith('Seg') else 'mmdet'):
        return {role: MODELS.build(dict(type=kind, **cfg, **options)) for role, cfg in cfgs.items()}


def assert_same(mine, theirs) -> None:
    """Compare two data samples or parts of them, to the bit."""
    assert type(mine) is type(theirs)
    assert mine.metainfo == theirs.metainfo
    assert set(mine.all_keys()) == set(theirs.all_keys())
    for key, value in theirs.items():
        other = mine.get(key)
        if isinstance(value, torch.Tensor):
            assert torch.equal(other, value), key
        elif key == 'masks':
            assert np.array_equal(other.masks, value.masks)
            assert (other.height, other.width) == (value.height, value.width)
        else:
            assert_same(other, value)


def detection_batch():
    return small_detectors.batch(masks=True, size=(70, 90))


def segmentation_batch():
    return small_segmentors.batch(size=(28, 30))


@pytest.mark.parametrize(
    ('cfgs', 'kind', 'options', 'make', 'sizes'),
    [
        (DETECTION, 'DetDataPreprocessor', dict(pad_mask=True), detection_batch, [(96, 96), (96, 96), (96, 96)]),
        (SEGMENTATION, 'SegDataPreProcessor', {}, segmentation_batch, [(32, 32), (48, 40)]),
    ],
    ids=['detection', 'segmentation'],
)
def test_each_role_gets_what_its_own_preprocessor_makes(cfgs, kind, options, make, sizes):
    roles = RolePreprocessor(built(cfgs, kind, **options), keep_samples=tuple(cfgs), deploy='student')
    given = make()
    done = roles(given, True)
    for (role, alone), size in zip(built(cfgs, kind, **options).items(), sizes, strict=True):
        expected = alone(make(), True)
        assert torch.equal(done['inputs'][role], expected['inputs']) and expected['inputs'].shape[2:] == size
        assert len(done['data_samples'][role]) == 2
        for mine, theirs in zip(done['data_samples'][role], expected['data_samples'], strict=True):
            assert_same(mine, theirs)
    assert not torch.equal(done['inputs']['student'].mean((0, 2, 3)), done['inputs']['teacher'].mean((0, 2, 3)))
    # what the data loader gave is not edited
    for mine, theirs in zip(given['data_samples'], make()['data_samples'], strict=True):
        assert mine.metainfo == theirs.metainfo


def test_masks_and_label_maps_are_padded_for_each_role_by_itself():
    cfgs = deepcopy(DETECTION)
    cfgs['teacher']['pad_size_divisor'] = 64
    roles = RolePreprocessor(
        built(cfgs, 'DetDataPreprocessor', pad_mask=True, mask_pad_value=1), tuple(cfgs), 'student'
    )
    done = roles(detection_batch(), True)['data_samples']
    for role, (height, width) in dict(student=(96, 96), teacher=(128, 128), twin=(96, 96)).items():
        for index, (h, w) in enumerate([(70, 90), (50, 60)]):
            masks = done[role][index].gt_instances.masks.masks
            assert masks.shape == (3, height, width)
            assert masks[:, h:].all() and masks[:, :, w:].all() and not masks[:, :h, :w].all()


def test_roles_of_equal_config_share_images_but_not_samples():
    roles = dict(student=small_detectors.detector('mask'), teacher=small_detectors.detector('mask', 8, std=40.0))
    model = small_detectors.distillation(roles={**roles, 'twin': small_detectors.detector('mask')})
    done = model.data_preprocessor(small_detectors.batch(masks=True), True)
    assert done['inputs']['student'] is done['inputs']['twin']
    assert not torch.equal(done['inputs']['student'], done['inputs']['teacher'])
    first, twin = done['data_samples']['student'][0], done['data_samples']['twin'][0]
    assert_same(first, twin)
    assert first.gt_instances.bboxes.data_ptr() != twin.gt_instances.bboxes.data_ptr()
    for name, role in model.roles.items():
        alone = role.data_preprocessor(small_detectors.batch(masks=True), True)
        assert torch.equal(done['inputs'][name], alone['inputs'])


def test_a_single_role_and_prediction_are_the_stock_path():
    one = built(dict(student=DETECTION['student']), 'DetDataPreprocessor')
    done = RolePreprocessor(one, ('student',), 'student')(detection_batch(), True)
    expected = one['student'](detection_batch(), True)
    assert torch.equal(done['inputs']['student'], expected['inputs'])
    two = built(DETECTION, 'DetDataPreprocessor')
    predicting = RolePreprocessor(two, tuple(DETECTION), 'teacher')(detection_batch(), False)
    assert torch.equal(predicting['inputs'], two['teacher'](detection_batch(), False)['inputs'])


@pytest.mark.parametrize(
    ('cfgs', 'kind', 'make'),
    [
        (DETECTION, 'DetDataPreprocessor', detection_batch),
        (SEGMENTATION, 'SegDataPreProcessor', segmentation_batch),
    ],
    ids=['detection', 'segmentation'],
)
def test_a_frozen_role_gets_meta_information_but_no_ground_truth(cfgs, kind, make):
    modules = built(cfgs, kind)
    done = RolePreprocessor(modules, keep_samples=('student',), deploy='student')(make(), True)['data_samples']
    for mine, theirs in zip(done['teacher'], modules['teacher'](make(), True)['data_samples'], strict=True):
        assert type(mine) is type(theirs) and mine.metainfo == theirs.metainfo
        assert 'pad_shape' in mine.metainfo_keys() or kind.startswith('Seg')
        assert not mine.keys() and theirs.keys()
    assert done['student'][0].keys()


# ---- batch augmentations --------------------------------------------------------------------------------------------


def resizing() -> dict[str, dict]:
    """Two roles, whose stock preprocessors draw a new size after every iteration."""
    augment = dict(type='BatchSyncRandomResize', random_size_range=(64, 640), interval=1, size_divisor=32)
    return {role: dict(deepcopy(DETECTION[role]), batch_augments=[augment]) for role in ('student', 'teacher')}


def run(preprocess, steps: int = 6) -> tuple[list, tuple]:
    """Preprocess several batches; what came out and where the generators stand."""
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    done = []
    for step in range(steps):
        MessageHub.get_current_instance().update_info('iter', step)
        done.append(preprocess(small_detectors.batch(seed=step, size=(96, 96)), True))
        torch.rand(1)  # what a model draws between two batches
        random.random()
    MessageHub.get_current_instance().update_info('iter', 0)
    return done, (random.random(), np.random.rand(), torch.rand(1).item())


def test_a_random_resize_draws_one_size_for_all_roles_and_leaves_the_generators_as_stock_does():
    stock, generators = {}, {}
    for role, module in built(resizing(), 'DetDataPreprocessor').items():
        stock[role], generators[role] = run(module)
    modules = built(resizing(), 'DetDataPreprocessor')
    done, mine = run(RolePreprocessor(modules, tuple(modules), 'student'))
    assert mine == generators['student'] == generators['teacher']
    sizes = [step['inputs'].shape[2:] for step in stock['student']]
    assert len(set(sizes)) > 3
    for index, step in enumerate(done):
        for role in modules:
            expected = stock[role][index]
            assert torch.equal(step['inputs'][role], expected['inputs'])
            for one, other in zip(step['data_samples'][role], expected['data_samples'], strict=True):
                assert_same(one, other)
        if index:  # before the first draw the roles keep their own padding
            assert step['inputs']['student'].shape == step['inputs']['teacher'].shape
