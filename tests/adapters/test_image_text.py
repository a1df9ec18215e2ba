"""SAN, which compares masks with texts: its encoder of images learns and teaches."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from small_segmentors import batch, distillation
from tap_reader import TapReader
from torch.nn.functional import interpolate

from mmadm.utils.config import role_model_cfg, without_pretrained
from mmadm.utils.errors import ConfigError

SIZE, WORDS = (64, 96), ['road', 'tree', 'sky', 'car', 'wall']
CWD = dict(
    type='Transfer', source='teacher', learner='student', at='feats', loss=dict(type='ChannelWiseDivergence')
)  # fmt: skip


def san(width=8):
    cfg = without_pretrained(role_model_cfg(dict(cfg='mmseg::san/san-vit-b16_coco-stuff164k-640x640.py')))
    cfg['data_preprocessor'].pop('size_divisor')
    cfg['data_preprocessor']['size'] = SIZE
    cfg['image_encoder'].update(
        img_size=32, embed_dims=width, num_heads=2, num_layers=3, out_indices=(0, 1, 2), frozen_exclude=['all']
    )
    cfg['text_encoder'].update(
        dataset_name=None, vocabulary=WORDS, templates=['a {}.'], embed_dims=8, num_heads=2, num_layers=1, output_dims=8
    )
    head = cfg['decode_head']
    head.update(num_classes=len(WORDS), deep_supervision_idxs=[3])
    head['maskgen_cfg'].update(embed_dims=width, num_heads=2, num_layers=1, out_dims=8, sos_token_num=4)
    side = head['san_cfg']
    side.update(clip_channels=width, embed_dims=8, num_queries=4)
    side['cfg_encoder'].update(num_encode_layer=4, num_heads=2)
    side['cfg_decoder'].update(num_heads=2, embed_channels=8, mlp_channels=8)
    head['train_cfg']['num_points'] = 16
    head['loss_decode'][0]['class_weight'] = [1.0] * len(WORDS) + [0.1]
    return cfg


def drawn(cfg):
    """Stock draws no weights for SAN: its `init_weights` calls one that is not there, but where it is pretrained."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.manual_seed(0)
        model = MODELS.build(ConfigDict(cfg))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # mmcv keeps in a default argument what another network of this process was given
    return model.train()


@pytest.fixture(scope='module')
def model():
    return drawn(san())


def test_a_learner_and_a_frozen_one_show_the_maps_of_the_size_that_stock_gives(model):
    data = model.data_preprocessor(batch(size=SIZE), True)
    reader = TapReader('student', model)
    learning = reader.loss(model.train(), **data, taps=['feats'])
    frozen = reader.features(model.eval(), data['inputs'], ['feats'], data['data_samples'])
    half = interpolate(data['inputs'], scale_factor=0.5, mode='bilinear')
    expected = [level for level, _ in model.image_encoder(half)]
    assert [tuple(level.shape[2:]) for level in expected] == [(2, 3)] * 4
    for read in (learning, frozen):
        torch.testing.assert_close(list(read.taps['feats']), expected)
        assert read.strides['feats'] == ((32.0, 32.0),) * 4
    assert torch.equal(learning.truth.labels, torch.stack([s.gt_sem_seg.data[0] for s in data['data_samples']]))


def test_one_learns_from_a_wider_one():
    roles = dict(student=san(), teacher=san(16))
    model = drawn(dict(type='mmadm.Distillation', roles=roles, distillers=[CWD], frozen=['teacher']))
    losses = model(**model.data_preprocessor(batch(size=SIZE), True), mode='loss')
    losses['student.loss_transfer'].backward()
    assert losses['student.loss_transfer'] > 0
    assert model.roles.student.image_encoder.patch_embed.projection.weight.grad.any()
    assert all(parameter.grad is None for parameter in model.roles.teacher.parameters())


@pytest.mark.parametrize(
    ('at', 'message'),
    [
        ('logits', 'SideAdapterCLIPHead has no tap `logits`: it scores masks of its own by texts; tap `feats`'),
        ('decode_head.rec_with_attnbias', "'decode_head.rec_with_attnbias' depends on texts, which roles do not share"),
    ],
)
def test_what_depends_on_texts_is_refused(at, message):
    with pytest.raises(ConfigError, match=message):
        distillation(roles=dict(student=san(), teacher=san()), distillers=[dict(CWD, at=at)])
