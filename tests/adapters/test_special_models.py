"""Stock models that a small blank image does not fit, or that lack a usual head, learn from one of their own kind."""

from __future__ import annotations

from copy import deepcopy

import pytest
import small_detectors
import small_segmentors
import torch
from mmengine.registry import MODELS, DefaultScope
from tap_reader import TapReader

from mmadm.adapters.taps import tensors_of
from mmadm.utils.config import role_model_cfg, without_pretrained
from mmadm.utils.errors import ConfigError

CLASSES = small_segmentors.CLASSES
CWD = dict(
    type='Transfer', source='teacher', learner='student', at='feats', loss=dict(type='ChannelWiseDivergence')
)  # fmt: skip
MUTUAL = dict(type='MutualLearning', roles=['student', 'teacher'])


def stock(name):
    return without_pretrained(role_model_cfg(dict(cfg=name)))


def ssd(width=4):
    """SSD300 on a ResNet; its neck ends in two 3x3 convolutions without padding, too much for 128 pixels."""
    cfg = stock('mmdet::ssd/ssd300_coco.py')
    cfg['backbone'] = dict(
        type='ResNet', depth=18, base_channels=width, stem_channels=width, out_indices=(1, 2), norm_cfg=dict(type='BN')
    )
    channels = (2 * width, 4 * width, 8, 8, 8, 8)
    cfg['neck'].update(in_channels=channels[:2], out_channels=channels)
    cfg['bbox_head'].update(in_channels=channels, num_classes=small_detectors.CLASSES)
    return cfg


def beit(width=8, size=(32, 48)):
    """BEiT's attention has a table of relative positions, which fits one size of images alone."""
    cfg = stock('mmseg::beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py')
    cfg['data_preprocessor']['size'] = (32, 48)
    cfg['backbone'].update(
        img_size=size, patch_size=8, embed_dims=width, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3)
    )
    cfg['neck']['embed_dim'] = width
    cfg['decode_head'].update(in_channels=[width] * 4, channels=8, pool_scales=(1, 2), num_classes=CLASSES)
    cfg['auxiliary_head'].update(in_channels=width, channels=8, num_classes=CLASSES)
    for part in ('decode_head', 'auxiliary_head'):
        cfg[part]['norm_cfg'] = dict(type='BN')
    return cfg


def dpt(width=4):
    """DPT's transformer puts out a map and a class token at each level."""
    cfg = stock('mmseg::dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py')
    cfg['data_preprocessor']['size'] = (32, 48)
    cfg['backbone'].update(
        img_size=32, patch_size=8, embed_dims=4 * width, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3)
    )
    cfg['decode_head'].update(
        in_channels=(4 * width,) * 4, embed_dims=4 * width, channels=8, post_process_channels=[8] * 4,
        num_classes=CLASSES, norm_cfg=dict(type='BN'),
    )  # fmt: skip
    return cfg


def mask2former(width=4):
    cfg = stock('mmseg::mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py')
    cfg['data_preprocessor']['size'] = small_segmentors.SIZE
    cfg['backbone'].update(depth=18, base_channels=width, stem_channels=width, norm_cfg=dict(type='BN'))
    head = cfg['decode_head']
    head.update(
        in_channels=[width * 2**level for level in range(4)], feat_channels=16, out_channels=16, num_classes=CLASSES,
        num_queries=6,
    )  # fmt: skip
    head['loss_cls']['class_weight'] = [1.0] * CLASSES + [0.1]
    head['train_cfg']['num_points'] = 64
    pixels, decoder = head['pixel_decoder'], head['transformer_decoder']
    pixels['norm_cfg'] = dict(type='GN', num_groups=4)
    for part in (pixels['encoder'], decoder):
        part['num_layers'] = 1
        layer = part['layer_cfg']
        for name in ('self_attn_cfg', 'cross_attn_cfg'):
            if name in layer:
                layer[name].update(embed_dims=16, num_heads=2)
        layer['ffn_cfg'].update(embed_dims=16, feedforward_channels=16)
    for part in (pixels, head):
        part['positional_encoding'].update(num_feats=8)
    return cfg


def solo(width=4):
    """SOLO has a mask_head; its bbox_head is None."""
    cfg = stock('mmdet::solo/solo_r50_fpn_1x_coco.py')
    cfg['backbone'].update(
        depth=18, base_channels=width, stem_channels=width, frozen_stages=-1, norm_cfg=dict(type='BN')
    )
    cfg['neck'].update(in_channels=[width * 2**level for level in range(4)], out_channels=16)
    cfg['mask_head'].update(
        in_channels=16, feat_channels=16, stacked_convs=1, num_classes=small_detectors.CLASSES,
        norm_cfg=dict(type='GN', num_groups=4),
    )  # fmt: skip
    return cfg


CASES = dict(
    ssd=(small_detectors, ssd, small_detectors.batch(2, size=(300, 300))),
    beit=(small_segmentors, beit, small_segmentors.batch(2, size=(32, 48))),
    dpt=(small_segmentors, dpt, small_segmentors.batch(2, size=(32, 48))),
    mask2former=(small_segmentors, mask2former, small_segmentors.batch(2)),
    solo=(small_detectors, solo, small_detectors.batch(2, masks=True)),
)


def pair(family, distiller=CWD, cfg=None, **kwargs):
    """A student that learns from a frozen, wider teacher of its kind."""
    helpers, stock_cfg, _ = CASES[family]
    roles = dict(student=cfg or stock_cfg(), teacher=stock_cfg(16 if family == 'beit' else 8))
    return helpers.distillation(roles=roles, distillers=[distiller], frozen=['teacher'], **kwargs)


def step(model, family):
    """One training step on the family's batch: the logged losses, and the names of what it moved."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    logs = model.train_step(deepcopy(CASES[family][2]), small_segmentors.plain_optimiser(model, lr=1e-4))
    return logs, {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}


@pytest.mark.parametrize('family', CASES)
def test_a_student_of_the_same_kind_learns_features(family):
    model = pair(family)
    logs, moved = step(model, family)
    assert logs['student.loss_transfer'] > 0 and torch.isfinite(logs['loss'])
    assert len(logs) > 3 and logs['student.loss'] > logs['student.loss_transfer']
    assert not [key for key in moved if key.startswith('roles.teacher')]
    assert {name for name, _ in model.roles.student.named_parameters()} & {key[14:] for key in moved}


@pytest.mark.parametrize('family', ['ssd', 'beit'])
def test_a_student_of_the_same_kind_learns_logits(family):
    model = pair(family, MUTUAL)
    data = model.data_preprocessor(deepcopy(CASES[family][2]), True)
    outputs = {}
    for name, role in model.eval().roles.items():
        adapter = TapReader(name, role)
        outputs[name] = adapter.features(role, data['inputs'][name], ['logits'])
        assert not outputs[name].by_sigmoid
    scores = [out.taps['logits'] for out in outputs.values()]
    assert all(level.shape[1] == (CLASSES if family == 'beit' else small_detectors.CLASSES + 1) for level in scores[0])
    logs, _ = step(model.train(), family)
    assert logs['student.loss_mutual'] > 0


@pytest.mark.parametrize(
    ('family', 'message'),
    [
        ('solo', "'student': SOLOHead has no tap `logits`: only heads with.*Tap `feats` or a module path"),
    ],
)
def test_heads_without_class_maps_refuse_logits(family, message):
    with pytest.raises(ConfigError, match=message):
        pair(family, MUTUAL)


def test_class_tokens_are_no_features():
    role = pair('dpt').roles.student.eval()
    images = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        levels, tokens = zip(*role.backbone(images), strict=True)
        found = TapReader('student', role).features(role, images, ['feats']).taps['feats']
    assert [token.dim() for token in tokens] == [2] * 4
    assert all(torch.equal(level, read) for level, read in zip(levels, found, strict=True))


def test_pre_logits_are_missed_like_logits():
    with pytest.raises(ConfigError, match='Mask2FormerHead has no `conv_seg`, so no tap `pre_logits`; tap `feats`'):
        pair('mask2former', dict(CWD, at='pre_logits'))


@pytest.mark.parametrize('tap', ['decode_head.pixel_decoder', 'decode_head.cls_embed', 'decode_head.mask_embed[0]'])
def test_a_head_that_wants_data_samples_can_be_tapped_inside(tap):
    model = pair('mask2former', dict(type='Transfer', source='teacher', learner='student', at=tap,
                                     loss=dict(type='HintMSE')))  # fmt: skip
    logs, moved = step(model, 'mask2former')
    assert logs['student.loss_transfer'] > 0
    assert any(key.startswith('roles.student.decode_head.pixel_decoder') for key in moved)
    # a frozen role runs up to there as for a prediction, which is not made
    role, data = model.roles.teacher, model.data_preprocessor(deepcopy(CASES['mask2former'][2]), True)
    inputs, samples, stock_output = data['inputs']['teacher'], data['data_samples']['teacher'], []
    adapter = TapReader('teacher', role)
    found = adapter.features(role, inputs, [tap], samples).taps[tap]
    (path,) = adapter.paths(role, [tap])
    handle = role.get_submodule(path).register_forward_hook(lambda *call: stock_output.extend(tensors_of(call[2])))
    role(inputs, samples, mode='predict')
    handle.remove()
    expected = stock_output[:1] if tap.endswith('[0]') else stock_output
    # of tokens (N, L, C) the channels are handed on second
    torch.testing.assert_close(found, [x if x.dim() == 4 else x.transpose(1, 2) for x in expected])


def test_a_head_of_masks_can_be_tapped_inside():
    model = pair('solo', dict(CWD, at='mask_head.conv_cls'))
    logs, _ = step(model, 'solo')
    assert logs['student.loss_transfer'] > 0


# ---- the image of the dry run ---------------------------------------------------------------------------------------


def test_a_network_that_takes_the_small_image_gets_it():
    model = small_segmentors.build(small_segmentors.segmentor())
    assert TapReader('student', model.eval()).probe(model, 96, ['feats']).taps['feats'][0].shape[2:] == (24, 24)


@pytest.mark.parametrize('stated', ['data_preprocessor', 'backbone'])
def test_a_network_of_one_size_gets_the_size_that_it_states(stated):
    cfg = beit()
    if stated == 'backbone':
        cfg['data_preprocessor'].pop('size')
    model = small_segmentors.build(cfg)
    found = TapReader('student', model.eval()).probe(model, 128, ['feats', 'logits'])
    assert [tuple(level.shape[2:]) for level in found.taps['feats']] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert found.truth.labels.shape == (1, 32, 48)


def test_a_network_that_takes_neither_image_says_what_to_do():
    message = (
        "role 'student': no blank image goes through EncoderDecoder up to feats, neither of 128 x 128 pixels nor of "
        r'32 x 48 \(RuntimeError: .*`data_preprocessor.size`, else `backbone.img_size`, else 512: set these right'
    )
    with pytest.raises(ConfigError, match=message):
        pair('beit', cfg=beit(size=(64, 64)))  # images of another size than the network is made for


def test_tokens_of_a_network_that_needs_a_large_image():
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(dict(type='mmadm.TokenTraining', roles=dict(teacher=ssd())))
    assert [level.shape[1] for level in model.tokens.parameters()] == [8, 16, 8, 8, 8, 8]


def test_what_a_bridge_goes_on_from_is_found_in_the_large_image():
    """A dry run that broke off inside the neck does not count: the backbone runs before anything that learns."""
    roles = dict(
        student=dict(cfg=ssd()), teacher=dict(cfg=ssd(8)), bridge=dict(like='teacher', train=['neck', 'bbox_head'])
    )
    model = small_detectors.distillation(
        roles=roles, frozen=['teacher'], distillers=[dict(MUTUAL, roles=['student', 'bridge'])]
    )
    assert model._runner._prefixes['bridge'].paths == ('backbone',)
