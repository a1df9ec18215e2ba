"""Re-identification: pictures of one size, several of them in each item, and vectors instead of classes."""

from __future__ import annotations

import extras
import pytest
import torch
from small_detectors import build
from tap_reader import TapReader

from mmadm.utils.config import role_model_cfg, without_pretrained
from mmadm.utils.errors import ConfigError

extras.use('mmpretrain.models')
CWD = dict(
    type='Transfer', source='teacher', learner='student', at='feats', loss=dict(type='ChannelWiseDivergence')
)  # fmt: skip
VECTORS = dict(CWD, at='head', loss=dict(type='HintMSE'))
SIZE = (256, 128)


def reid(width=4):
    cfg = without_pretrained(role_model_cfg(dict(cfg='mmdet::reid/reid_r50_8xb32-6e_mot15train80_test-mot15val20.py')))
    cfg['backbone'].update(depth=18, base_channels=width, stem_channels=width)
    cfg['head'].update(in_channels=8 * width, fc_channels=16, out_channels=8, num_classes=3)
    return cfg


def batch():
    """What a loader gives for one item of a data set with a triplet sampler: two pictures of each of two people."""
    from mmdet.structures import ReIDDataSample

    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (4, 3, *SIZE), dtype=torch.uint8, generator=generator)
    return dict(inputs=[pictures], data_samples=[ReIDDataSample().set_gt_label(torch.tensor([0, 0, 2, 2]))])


def model_with(*distillers):
    roles = dict(student=reid(), teacher=reid(8))
    return build(dict(type='mmadm.Distillation', roles=roles, distillers=list(distillers), frozen=['teacher']))


def test_the_pictures_of_an_item_are_a_batch():
    model = build(reid())
    data = model.data_preprocessor(batch(), True)
    stock = model(**data, mode='loss')
    read = TapReader('student', model).loss(model, **data, taps=['feats', 'head'])
    assert read.losses.keys() == stock.keys() > {'triplet_loss', 'ce_loss'}
    assert all(torch.equal(read.losses[key], stock[key]) for key in ('triplet_loss', 'ce_loss'))
    features = model.backbone(data['inputs'][0])
    assert torch.equal(read.taps['feats'][0], features[-1])
    assert torch.equal(read.taps['head'][0], model.head(model.neck(features)))
    assert read.truth.image_labels.tolist() == [0, 0, 2, 2]
    assert read.area.images == (SIZE,) * 4


def test_vectors_and_features_are_taught():
    model = model_with(CWD, VECTORS)
    losses = model(**model.data_preprocessor(batch(), True), mode='loss')
    taught = [value for key, value in losses.items() if 'loss_transfer' in key]
    assert len(taught) == 2 and all(value > 0 for value in taught)
    sum(taught).backward()
    assert model.roles.student.head.fc_out.weight.grad.any()
    assert all(parameter.grad is None for parameter in model.roles.teacher.parameters())


def test_they_have_no_class_scores():
    with pytest.raises(ConfigError, match=r'LinearReIDHead puts out no class scores \(N, K\); tap `feats` or a module'):
        model_with(dict(CWD, at='logits', loss=dict(type='KLDivergence')))
