"""Detection transformers: encoder tokens become one map for each level."""

from __future__ import annotations

import pytest
import torch
from small_detectors import batch, build, detector, distillation
from tap_reader import TapReader

from mmadm.utils.config import role_model_cfg, without_pretrained
from mmadm.utils.errors import ConfigError

ADM = dict(type='ADM', at='encoder')


@pytest.fixture(scope='module', params=['deformable', 'dino'])
def model(request):
    return build(detector(request.param))


@pytest.fixture(scope='module')
def adapter(model):
    return TapReader('student', model)


@pytest.fixture
def data(model):
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()  # so that the encoder can be computed twice
    return model.data_preprocessor(batch(), True)


def test_maps_are_the_tokens_that_the_decoder_sees(model, adapter, data):
    seen = {}
    handle = model.decoder.register_forward_hook(lambda *args: seen.update(args[2]), with_kwargs=True)
    names = ['encoder', 'encoder.layers.0', 'encoder.layers.1', 'encoder[1:3]', 'feats']
    taps = adapter.loss(model, **data, taps=names).taps
    handle.remove()
    tokens, shapes = seen['value'], seen['spatial_shapes'].tolist()
    assert [list(level.shape[2:]) for level in taps['encoder']] == shapes and len(shapes) == 4
    assert shapes == [list(level.shape[2:]) for level in taps['feats']]
    start = 0
    for level, (height, width) in zip(taps['encoder'], shapes, strict=True):
        for y in range(height):
            for x in range(width):
                assert torch.equal(level[:, :, y, x], tokens[:, start + y * width + x])
        start += height * width
    assert start == tokens.shape[1]
    # the last layer puts out what the encoder does
    for mine, last, first in zip(taps['encoder'], taps['encoder.layers.1'], taps['encoder.layers.0'], strict=True):
        assert torch.equal(mine, last) and not torch.equal(mine, first)
    assert all(torch.equal(a, b) for a, b in zip(taps['encoder[1:3]'], taps['encoder'][1:3], strict=True))
    assert len(taps['encoder[1:3]']) == 2


@pytest.mark.parametrize(
    ('at', 'beyond'), [('feats', ('encoder', 'decoder', 'bbox_head')), ('encoder', ('decoder', 'bbox_head'))]
)
def test_a_frozen_role_gives_the_same_maps_and_runs_no_further(model, adapter, data, at, beyond):
    expected = adapter.loss(model, **data, taps=[at]).taps[at]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    handles = [m.register_forward_hook(lambda *_, name=name: seen.append(name)) for name, m in model.named_modules()]
    bare = [type(sample)(metainfo=sample.metainfo) for sample in data['data_samples']]
    taps = adapter.features(model.eval(), data['inputs'], [at], bare).taps
    for handle in handles:
        handle.remove()
    assert at.replace('feats', 'neck') in seen and not [name for name in seen if name.startswith(beyond)]
    for mine, theirs in zip(taps[at], expected, strict=True):
        assert torch.equal(mine, theirs)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_padded_part_of_an_image_is_left_out_of_a_frozen_encoder(model, adapter, data):
    """The meta information reaches it: without, padding would count as image and change every token."""
    model.eval()
    bare = [type(sample)(metainfo=sample.metainfo) for sample in data['data_samples']]
    right = adapter.features(model, data['inputs'], ['encoder'], bare).taps['encoder'][0]
    whole = [type(sample)(metainfo={**sample.metainfo, 'img_shape': (96, 128)}) for sample in data['data_samples']]
    wrong = adapter.features(model, data['inputs'], ['encoder'], whole).taps['encoder'][0]
    assert not torch.allclose(right[1], wrong[1])


@pytest.mark.parametrize('at', ['logits', 'boxes'])
def test_a_head_with_queries_says_which_heads_have_the_tap(at):
    roles = dict(student=detector('deformable'), teacher=detector('retinanet'))
    message = rf"'student': DeformableDETRHead has no tap `{at}`: the queries.*RetinaHead, FCOSHead.* and RoI heads"
    with pytest.raises(ConfigError, match=message):
        distillation(roles=roles, distillers=[dict(ADM, at=at)])


@pytest.mark.parametrize(
    ('at', 'message'),
    [
        ('decoder', "'decoder' works on queries, which do not correspond between roles; tap `feats`, `encoder`"),
        ('bbox_head', "'bbox_head' works on queries"),
        ('encoder.layers.5', "no tap 'encoder.layers.5'; did you mean 'encoder.layers.1'"),
        ('encoder.layers.0.ffn', 'tap the encoder as a whole or one of its layers'),
        (dict(student='encoder', teacher='encoder[:2]'), "gives 4 levels, 'encoder.:2.' of 'teacher' gives 2"),
    ],
)
def test_taps_that_do_not_correspond_are_refused(at, message):
    with pytest.raises(ConfigError, match=message):
        distillation('deformable', distillers=[dict(ADM, at=at)])


def test_an_encoder_over_one_level_has_no_maps():
    cfg = without_pretrained(role_model_cfg(dict(cfg='mmdet::detr/detr_r50_8xb2-150e_coco.py')))
    cfg['backbone'] = dict(detector('deformable')['backbone'], out_indices=(3,))
    cfg['neck'].update(in_channels=[32])
    for part in ('encoder', 'decoder'):
        cfg[part].update(num_layers=1)
    roles = dict(student=cfg, teacher=detector('deformable'))
    with pytest.raises(ConfigError, match='whose encoder works on feature levels'):
        distillation(roles=roles, distillers=[ADM])
