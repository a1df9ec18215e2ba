"""Taps: names, paths, repeated calls, heads, cascades."""

import pytest
import torch
from mmengine.registry import DefaultScope
from small_segmentors import SIZE, batch, build, segmentor
from tap_reader import TapReader
from torch import nn

from mmadm.adapters.taps import Reading, tapped
from mmadm.structures import Tap
from mmadm.utils.errors import ConfigError


@pytest.fixture(scope='module')
def model():
    return build(segmentor(4, auxiliary=True))


@pytest.fixture(scope='module')
def adapter(model):
    return TapReader('student', model)


def preprocessed(model):
    return model.data_preprocessor(batch(), True)


def test_logits_are_what_the_loss_is_computed_from(model, adapter):
    data = preprocessed(model)
    torch.manual_seed(0)
    output = adapter.loss(model, data['inputs'], data['data_samples'], ['logits'])
    stock = model.decode_head.loss_by_feat(output.taps['logits'][0], data['data_samples'])
    assert output.losses['decode.loss_ce'].item() == stock['loss_ce'].item()
    assert output.truth.labels.shape == (2, *SIZE) and (output.truth.labels[:, :4] == 255).all()
    assert output.truth.ignore_index == 255


def test_feats_are_the_neck_or_the_backbone(model, adapter):
    data = preprocessed(model)
    with torch.no_grad():
        output = adapter.features(model.eval(), data['inputs'], ['feats', 'backbone.layer4'])
    expected = model.backbone(data['inputs'])
    assert len(output.taps['feats']) == 4
    for mine, theirs in zip(output.taps['feats'], expected, strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(output.taps['backbone.layer4'][0], expected[3])
    necked = segmentor(4)
    necked['neck'] = dict(type='FPN', in_channels=[4, 8, 16, 32], out_channels=6, num_outs=4)
    necked['decode_head']['in_channels'] = 6
    other = build(necked).eval()
    taps = TapReader('student', other).features(other, data['inputs'], ['feats']).taps['feats']
    assert [t.shape[1] for t in taps] == [6] * 4


def test_auxiliary_heads_can_be_tapped(model, adapter):
    data = preprocessed(model)
    taps = ['auxiliary_head.conv_seg', 'logits']
    frozen = adapter.features(model.eval(), data['inputs'], taps).taps
    features = model.extract_feat(data['inputs'])
    assert torch.equal(frozen[taps[0]][0], model.auxiliary_head.forward(features))
    assert torch.equal(frozen['logits'][0], model.decode_head.forward(features))


def test_a_cascade_gives_the_logits_of_its_last_stage():
    cfg = segmentor(4)
    first = cfg['decode_head']
    second = dict(
        type='OCRHead', in_channels=32, in_index=3, channels=8, ocr_channels=4, num_classes=5, norm_cfg=dict(type='BN'),
        align_corners=False, loss_decode=dict(type='CrossEntropyLoss'),
    )  # fmt: skip
    cfg.update(type='CascadeEncoderDecoder', num_stages=2, decode_head=[first, second])
    model = build(cfg).eval()
    inputs = torch.randn(2, 3, *SIZE)
    taps = TapReader('student', model).features(model, inputs, ['logits']).taps
    assert torch.equal(taps['logits'][0], model(inputs, mode='tensor'))


def test_a_module_called_several_times_gives_a_list_and_hooks_go_away():
    shared = nn.Conv2d(1, 1, 1)
    twice = nn.Sequential(shared, nn.Identity(), shared)
    conv, whole = Tap('', '0'), Tap('', 'whole')
    with tapped(twice, {conv: Reading(('0',)), whole: Reading(('',))}) as found:
        out = twice(torch.ones(1, 1, 2, 2))
    assert len(found[conv]) == 2 and torch.equal(found[conv][1], out) and len(found[whole]) == 1
    assert not shared._forward_hooks
    with pytest.raises(RuntimeError, match='inside'), tapped(twice, {conv: Reading(('0',))}):
        raise RuntimeError('inside')
    assert not shared._forward_hooks


def test_a_tap_that_is_changed_in_place_is_told_in_the_dry_run(model, adapter, logged):
    block = 'backbone.layer4.1'  # of a ResNet: the sum with the shortcut and the last ReLU change what bn2 puts out
    adapter.probe(model, 64, [f'{block}.bn2', f'{block}.conv2', block, 'feats', 'logits'])
    told = [record.getMessage() for record in logged.records]
    assert len(told) == 1 and told[0].startswith(
        f"role 'student': what is read at tap '{block}.bn2' is changed in place"
    )
    before = adapter.probe(model, 64, [f'{block}.bn2', block])
    assert torch.equal(before.taps[f'{block}.bn2'][0], before.taps[block][0])  # which is why it is told


@pytest.mark.parametrize(
    ('loss', 'binary'),
    [
        (dict(type='FocalLoss'), True),
        (dict(type='CrossEntropyLoss', use_sigmoid=True), True),
        (dict(type='CrossEntropyLoss'), False),
        ([dict(type='CrossEntropyLoss'), dict(type='DiceLoss', use_sigmoid=True)], False),
    ],
)
def test_the_loss_of_a_segmentor_says_what_its_scores_are(loss, binary):
    cfg = segmentor(4)
    cfg['decode_head']['loss_decode'] = loss
    model = build(cfg)
    assert TapReader('student', model).probe(model, 64, ['logits']).by_sigmoid is binary


def test_a_single_channel_is_a_sigmoid_whatever_the_loss():
    cfg = segmentor(4, classes=2)
    cfg['decode_head'].update(out_channels=1, threshold=0.3, loss_decode=dict(type='DiceLoss', use_sigmoid=True))
    model = build(cfg)
    assert TapReader('student', model).probe(model, 64, ['logits']).by_sigmoid


def test_a_head_without_a_classifier_convolution_says_so():
    cfg = segmentor(4)
    cfg['decode_head'] = dict(
        type='SegmenterMaskTransformerHead', in_channels=32, in_index=3, channels=8, num_classes=5, num_layers=1,
        num_heads=2, embed_dims=8, loss_decode=dict(type='CrossEntropyLoss'),
    )  # fmt: skip
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = build(cfg)
    with pytest.raises(ConfigError, match='SegmenterMaskTransformerHead has no `conv_seg`, so no tap `pre_logits`'):
        TapReader('student', model).reading(model, 'pre_logits')
