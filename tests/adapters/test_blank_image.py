"""Networks of other than three input channels: the dry run feeds what they take."""

from __future__ import annotations

from copy import deepcopy

import pytest
import small_detectors
import small_segmentors
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from tap_reader import TapReader
from torch import nn

from mmadm.adapters.blank_image import blank_image, blank_samples, input_channels

CWD = [
    dict(
        type='mmadm.Transfer',
        source='teacher',
        learner='student',
        at='feats',
        loss=dict(type='mmadm.ChannelWiseDivergence'),
    )
]


def segmentor(channels, width=4):
    """A tiny segmentor for images of so many channels."""
    cfg = small_segmentors.segmentor(width)
    cfg['backbone']['in_channels'] = channels
    cfg['data_preprocessor'].update(mean=[120.0] * channels, std=[58.0] * channels, bgr_to_rgb=False)
    return cfg


def detector(family, channels, width=4):
    """A tiny detector for images of so many channels; mmdet takes one mean or three."""
    cfg = small_detectors.detector(family, width)
    cfg['backbone']['in_channels'] = channels
    cfg['data_preprocessor'].update(mean=[120.0], std=[58.0], bgr_to_rgb=False)
    return cfg


def with_channels(batch, channels):
    """A batch whose images have other channels."""
    batch['inputs'] = [image[:1].repeat(channels, 1, 1) for image in batch['inputs']]
    return batch


CASES = [
    *((small_segmentors, segmentor(channels), segmentor(channels, 8), channels) for channels in (1, 4, 13)),
    *(
        (small_detectors, detector(family, channels), detector(family, channels, 8), channels)
        for family, channels in [('retinanet', 1), ('faster', 4), ('deformable', 4)]
    ),
]


@pytest.mark.parametrize(('toolbox', 'student', 'teacher', 'channels'), CASES)
def test_images_of_other_channels_train_as_in_the_stock_toolbox(toolbox, student, teacher, channels):
    model = toolbox.build(dict(type='mmadm.Distillation', roles=dict(student=student, teacher=teacher), distillers=CWD))
    stock = toolbox.build(ConfigDict(student))
    stock.load_state_dict(model.roles.student.state_dict())
    batch = with_channels(toolbox.batch(), channels)
    found = []
    for network in (model, stock):
        torch.manual_seed(1)
        found.append(network(**network.data_preprocessor(deepcopy(batch), True), mode='loss'))
    ours, theirs = found
    assert ours['student.loss_transfer'] > 0
    for key, loss in theirs.items():
        torch.testing.assert_close(ours[f'student.{key}'], loss, rtol=0, atol=0)


def test_a_grey_student_learns_with_a_teacher_of_colours():
    roles = dict(student=segmentor(1), teacher=segmentor(3, 8))
    # its own three means turn a grey image into three channels, as in the stock toolbox
    model = small_segmentors.distillation(roles=roles, distillers=CWD)
    losses = model(**model.data_preprocessor(with_channels(small_segmentors.batch(), 1), True), mode='loss')
    assert losses['student.loss_transfer'] > 0
    assert losses['teacher.decode.loss_ce'] > 0


@pytest.mark.parametrize('means', [None, [0.0] * 3])
def test_pixels_that_yolox_folds_into_channels_are_not_counted(means):
    with DefaultScope.overwrite_default_scope('mmdet'):
        backbone = MODELS.build(dict(type='CSPDarknet', widen_factor=0.125, deepen_factor=0.33))
    network = nn.ModuleDict(dict(backbone=backbone, data_preprocessor=nn.Identity()))
    network.data_preprocessor.mean = means
    assert input_channels(network) == 3
    assert len(backbone(blank_image(network, (64, 96)))) == 3


def test_a_network_that_begins_without_a_convolution_has_the_channels_of_its_means():
    network = nn.ModuleDict(dict(backbone=nn.Linear(4, 4), data_preprocessor=nn.Identity()))
    assert blank_image(network, (2, 5)).shape == (1, 3, 2, 5)
    network.data_preprocessor.mean = torch.zeros(6, 1, 1)
    assert input_channels(network) == 6


def test_blank_samples_have_what_stock_models_ask_for():
    (sample,) = blank_samples(1, (64, 96))
    assert sample.img_shape == sample.batch_input_shape == (64, 96)
    model = small_detectors.build(small_detectors.detector('retinanet')).eval()
    taps = TapReader('student', model).probe(model, 64, ['feats']).taps['feats']
    assert [tuple(tap.shape[2:]) for tap in taps] == [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
