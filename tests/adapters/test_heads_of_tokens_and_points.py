"""Segmentors whose last head scores tokens or points: Segmenter and PointRend; and the stages of any cascade."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from small_segmentors import CLASSES, batch, build, distillation, segmentor
from tap_reader import TapReader

from mmadm.functional import kl_divergence
from mmadm.structures import Kind
from mmadm.utils.config import role_model_cfg, without_pretrained
from mmadm.utils.errors import ConfigError

SIZE = (32, 48)  # not square: what is written as 4 x 6 is not read as 6 x 4
KD = dict(type='Transfer', source='teacher', learner='student', at='logits', loss=dict(type='KLDivergence', tau=1.0))


def segmenter(width=8):
    cfg = without_pretrained(
        role_model_cfg(dict(cfg='mmseg::segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py'))
    )
    cfg['data_preprocessor']['size'] = SIZE
    cfg['backbone'].update(img_size=SIZE, patch_size=8, embed_dims=width, num_layers=1, num_heads=2, drop_path_rate=0.0)
    cfg['decode_head'].update(
        in_channels=width, channels=width, embed_dims=width, num_layers=1, num_heads=2, num_classes=CLASSES,
        drop_path_rate=0.0,
    )  # fmt: skip
    return cfg


def pointrend(width=4):
    cfg = without_pretrained(
        role_model_cfg(dict(cfg='mmseg::point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py'))
    )
    cfg['data_preprocessor']['size'] = SIZE
    cfg['backbone'].update(depth=18, base_channels=width, stem_channels=width, norm_cfg=dict(type='BN'))
    cfg['neck'].update(in_channels=[width * 2**level for level in range(4)], out_channels=8)
    coarse, points = cfg['decode_head']
    coarse.update(in_channels=[8] * 4, channels=8, num_classes=CLASSES, norm_cfg=dict(type='BN'))
    points.update(in_channels=[8], channels=8, num_classes=CLASSES)
    cfg['train_cfg']['num_points'] = 16
    return cfg


def ocr(width=4):
    cfg = segmentor(width, dropout=0.0)
    cfg['data_preprocessor']['size'] = SIZE
    second = dict(
        type='OCRHead', in_channels=8 * width, in_index=3, channels=8, ocr_channels=4, num_classes=CLASSES,
        norm_cfg=dict(type='BN'), align_corners=False, loss_decode=dict(type='CrossEntropyLoss'), dropout_ratio=0.0,
    )  # fmt: skip
    return dict(cfg, type='CascadeEncoderDecoder', num_stages=2, decode_head=[cfg['decode_head'], second])


def pair(kind, **options):
    widths = (8, 16) if kind is segmenter else (4, 8)
    return distillation(**{**dict(roles=dict(zip(['student', 'teacher'], map(kind, widths), strict=True))), **options})


@pytest.mark.parametrize('kind', [segmenter, pointrend])
def test_logits_are_the_map_that_its_loss_sees(kind):
    model = build(ConfigDict(kind()))
    head = model.decode_head[0] if kind is pointrend else model.decode_head
    seen = []
    hook = head.loss_decode.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    data = model.data_preprocessor(batch(size=SIZE), True)
    reader = TapReader('student', model)
    reader.probe(model.eval(), 128, ['logits'])
    read = reader.loss(model.train(), **data, taps=['logits'])
    hook.remove()
    (logits,) = read.taps['logits']
    resized = torch.nn.functional.interpolate(logits, size=SIZE, mode='bilinear', align_corners=head.align_corners)
    torch.testing.assert_close(resized, seen[0])
    assert logits.requires_grad and read.kinds['logits'] is Kind.SOFTMAX_SCORES
    stride = 8.0 if kind is segmenter else 4.0
    assert read.strides['logits'] == ((stride, stride),)


@pytest.mark.parametrize('kind', [segmenter, pointrend])
def test_a_frozen_one_teaches_the_map_of_its_prediction(kind):
    model = build(kind()).eval()
    inputs = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        (found,) = TapReader('teacher', model).features(model, inputs, ['logits']).taps['logits']
        features = model.extract_feat(inputs)
        expected = (model.decode_head[0] if kind is pointrend else model.decode_head).forward(features)
    assert torch.equal(found, expected) and found.std() > 0


@pytest.mark.parametrize('kind', [segmenter, pointrend])
@pytest.mark.parametrize('frozen', [[], ['teacher']])
def test_one_learns_from_another(kind, frozen):
    model = pair(kind, distillers=[KD], frozen=frozen)
    losses = model(**model.data_preprocessor(batch(size=SIZE), True), mode='loss')
    losses['student.loss_transfer'].backward()
    assert losses['student.loss_transfer'] > 0
    assert all(parameter.grad is None for parameter in model.roles.teacher.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.roles.student.backbone.parameters())


@pytest.mark.parametrize('frozen', [[], ['teacher']])
@pytest.mark.parametrize('kind', [pointrend, ocr])
def test_a_stage_that_stock_runs_twice_in_training_counts_once(kind, frozen):
    """The loss of a cascade runs each stage, and once more what is in front of the next one."""
    model = pair(kind, distillers=[dict(KD, at='decode_head.0.conv_seg')], frozen=frozen)
    seen = {name: [] for name in model.roles}
    hooks = [
        role.decode_head[0].conv_seg.register_forward_hook(lambda *args, name=name: seen[name].append(args[2]))
        for name, role in model.roles.items()
    ]
    data = model.data_preprocessor(batch(size=SIZE, ignored_rows=0), True)
    losses = model(**data, mode='loss')
    for hook in hooks:
        hook.remove()
    assert [len(seen[name]) for name in seen] == ([2, 1] if frozen else [2, 2])
    # a plain path has the kind of a map of features, so name the scores
    expected = kl_divergence(seen['student'][0], seen['teacher'][0].detach(), tau=1.0)
    torch.testing.assert_close(losses['student.loss_transfer'], expected)


def test_the_points_of_pointrend_have_no_place_to_compare():
    with pytest.raises(ConfigError, match=r"tap 'decode_head.1.fc_seg' gave no tensor"):
        pair(pointrend, distillers=[dict(KD, at='decode_head.1.fc_seg')], frozen=['teacher'])
