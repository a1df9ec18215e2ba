"""Backbones that put out other levels in training than in eval: DDRNet and PIDNet."""

from __future__ import annotations

import pytest
import small_segmentors
import torch
from mmengine.structures import PixelData
from torch import nn

from mmadm.utils.errors import ConfigError
from mmadm.utils.eval_mode import as_in_training

BN, SIZE = dict(type='BN'), (64, 64)
OHEM = dict(type='OhemCrossEntropy', thres=0.9, min_kept=100)
CE = dict(type='CrossEntropyLoss')


def network(kind: str, channels: int) -> dict:
    """A narrow stock network; 64 x 64 pixels are the least that its pyramid pooling takes."""
    cfg = small_segmentors.segmentor()
    backbone = dict(in_channels=3, channels=channels, ppm_channels=8, norm_cfg=BN, align_corners=False)
    head = dict(in_channels=4 * channels, channels=8, num_classes=small_segmentors.CLASSES, norm_cfg=BN)
    if kind == 'DDRNet':
        cfg['backbone'] = dict(backbone, type='DDRNet')
        cfg['decode_head'] = dict(head, type='DDRHead', align_corners=False, loss_decode=[OHEM, OHEM])
    else:
        relu = dict(type='ReLU', inplace=True)
        cfg['backbone'] = dict(backbone, type='PIDNet', num_stem_blocks=2, num_branch_blocks=2, act_cfg=relu)
        losses = [CE, OHEM, dict(type='BoundaryLoss'), OHEM]
        cfg['decode_head'] = dict(head, type='PIDHead', align_corners=True, act_cfg=relu, loss_decode=losses)
    cfg['data_preprocessor']['size'] = SIZE
    return cfg


def transfer(at, loss='ChannelWiseDivergence') -> dict:
    return dict(type='Transfer', source='teacher', learner='student', at=at, loss=dict(type=loss))


def pair(kind: str, distiller: dict, **options):
    return small_segmentors.distillation(
        roles=dict(student=network(kind, 8), teacher=network(kind, 16)), distillers=[distiller], **options
    )


def losses_of(model) -> dict:
    batch = small_segmentors.batch(size=SIZE)
    for sample in batch['data_samples']:
        sample.gt_edge_map = PixelData(data=(sample.gt_sem_seg.data == 1).long())
    return model(**model.data_preprocessor(batch, True), mode='loss')


@pytest.mark.parametrize('frozen', [[], ['teacher']])
@pytest.mark.parametrize('kind', ['DDRNet', 'PIDNet'])
def test_their_class_scores_are_those_of_the_prediction(kind, frozen):
    model = pair(kind, transfer('logits', 'KLDivergence'), frozen=frozen)
    model.roles.student.load_state_dict(model.roles.student.state_dict())
    assert losses_of(model)['student.loss_transfer'] > 0


@pytest.mark.parametrize(('kind', 'levels'), [('DDRNet', 2), ('PIDNet', 3)])
def test_every_level_of_the_training_is_compared(kind, levels):
    model = pair(kind, transfer('feats'))
    (connectors,) = model.connectors.values()
    assert len(connectors) == levels
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    losses = losses_of(model)
    assert losses['student.loss_transfer'] > 0


@pytest.mark.parametrize(('kind', 'levels', 'same'), [('DDRNet', 2, 1), ('PIDNet', 3, 1)])
def test_a_frozen_one_has_the_level_of_the_prediction_alone(kind, levels, same):
    with pytest.raises(ConfigError, match=rf"'feats' of 'student' gives {levels} levels, 'feats' of 'teacher' gives 1"):
        pair(kind, transfer('feats'), frozen=['teacher'])
    model = pair(kind, transfer(dict(student=f'feats[{same}]', teacher='feats')), frozen=['teacher'])
    assert losses_of(model)['student.loss_transfer'] > 0


def test_what_acts_as_in_training_leaves_no_trace():
    net = nn.Sequential(nn.Sequential(nn.BatchNorm2d(1), nn.Dropout()), nn.Identity().eval())
    modes = [part.training for part in net.modules()]
    net[0].register_buffer('kept', torch.zeros(1))
    with as_in_training(net):
        assert [part.training for part in (net[0][0], net[0][1])] == [False, False]
        net[0].kept += 1
    assert [part.training for part in net.modules()] == modes
    assert net[0].kept == 0


@pytest.mark.parametrize('kind', ['DDRNet', 'PIDNet'])
def test_the_dry_run_leaves_statistics_and_generators_alone(kind):
    torch.manual_seed(3)
    alone = small_segmentors.build(network(kind, 8), seed=0)
    model = small_segmentors.distillation(
        roles=dict(student=network(kind, 8), teacher=network(kind, 16)), distillers=[transfer('feats')]
    )
    mine = model.roles.student.state_dict()
    assert all(torch.equal(value, mine[key]) for key, value in alone.state_dict().items())
    assert all(part.training for part in model.roles.student.modules())
