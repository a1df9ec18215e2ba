"""Backbones that only teach: what they see, where their maps lie, which tokens count, which weights they get."""

from __future__ import annotations

import logging
from copy import deepcopy

import pytest
import small_segmentors
import torch
import torch.nn.functional as F
from frozen_teacher_trainings import offline, write_colours
from small_trainings import runner_of
from tap_reader import TapReader
from torch import nn

from mmadm.distillers.grids import Grid, moved_onto
from mmadm.structures import BatchArea, Kind, Tap
from mmadm.utils.errors import CheckpointError, ConfigError

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
IMAGES = dict(mean=MEAN, std=STD, bgr_to_rgb=True)
SWIN = dict(type='mmdet.SwinTransformer', embed_dims=4, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
VIT = dict(type='mmseg.VisionTransformer', embed_dims=8, num_layers=2, num_heads=2, patch_size=16, img_size=64)
BEIT = dict(type='mmseg.BEiT', embed_dims=8, num_layers=2, num_heads=2, img_size=(64, 64), out_indices=1)


class Tokens(nn.Module):
    """Class token, two registers and patches of 4 pixels, as DINOv2 with registers orders them."""

    def __init__(self, width=8, depth=1, output='tokens'):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, 4, stride=4)
        self.cls_token = nn.Parameter(torch.full((1, 3, width), 99.0))
        self.blocks = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))
        self.output = output

    def forward(self, images):
        """Tokens (N, 3 + h * w, C), in one of the forms in which they are handed out."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        tokens = self.blocks(torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1))
        if self.output == 'transformers':
            return dict(last_hidden_state=tokens, pooler_output=tokens[:, 0])
        return dict(x_norm_clstoken=tokens[:, 0], x_norm_patchtokens=tokens[:, 3:]) if self.output == 'dino' else tokens


TOKENS = dict(module=f'{__name__}:Tokens')


def teacher(backbone, **options):
    return dict(type='mmadm.FeatureTeacher', backbone=backbone, data_preprocessor=IMAGES, **options)


def transfer(tap='feats', student='backbone.layer4'):
    at = dict(student=student, teacher=tap)
    return dict(type='mmadm.Transfer', source='teacher', learner='student', at=at, loss=dict(type='PearsonDistance'))


def pair(backbone, tap='feats', checkpoint=None, **options):
    cfg = dict(cfg=teacher(backbone, **options), checkpoint=checkpoint)
    return small_segmentors.distillation(
        roles=dict(student=small_segmentors.segmentor(4), teacher=cfg), frozen=['teacher'], distillers=[transfer(tap)]
    )


def normalised(batch):
    """The images of a batch as the teacher's own training saw them, by hand."""
    rgb = torch.stack(batch['inputs'])[:, [2, 1, 0]].float()
    return (rgb - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def maps(model, batch, tap='feats'):
    """A tap of the teacher as distillers see it in a training step."""
    data = model.data_preprocessor(deepcopy(batch), True)
    taps = {'teacher': [Tap('teacher', tap)], 'student': [Tap('student', 'backbone.layer4')]}
    found = model._runner.run(data['inputs'], data['data_samples'], taps, 0)['teacher']
    return found, found.taps[Tap('teacher', tap)]


@pytest.mark.parametrize('backbone', [VIT, dict(SWIN, out_indices=(2,))])
def test_a_registered_backbone_sees_its_own_normalisation_and_whole_patches(backbone):
    model, batch = pair(backbone), small_segmentors.batch(2, size=(30, 44))
    output, tap = maps(model, batch)
    padded = F.pad(normalised(batch), (0, 4, 0, 2)) if backbone is VIT else F.pad(normalised(batch), (0, 0, 0, 2))
    with torch.no_grad():
        (expected,) = model.roles.teacher.backbone(padded)
    assert tap.kind is Kind.MAP and tap.strides == ((16.0, 16.0),)
    torch.testing.assert_close(tap.levels[0], expected)
    assert output.area == BatchArea((32, 48) if backbone is VIT else (32, 44), ((30, 44), (30, 44)))


def test_it_stays_as_it_is_and_the_student_learns():
    model = pair(SWIN, 'backbone[2]')
    before = deepcopy(model.state_dict())
    logs = model.train_step(small_segmentors.batch(), small_segmentors.plain_optimiser(model))
    assert float(logs['student.loss_transfer']) > 0 and 'teacher.loss' not in logs
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {'roles.student.backbone.layer4.1.bn2.weight', 'connectors.transfer.backbone_layer4.weight'} <= moved
    assert not any(key.startswith('roles.teacher') for key in moved)


def test_a_backbone_of_one_size_gets_that_size():
    model, batch = pair(BEIT, size=(64, 64)), small_segmentors.batch(2, size=(32, 40))
    batch['data_samples'][1].set_metainfo(dict(img_shape=(24, 20)))
    output, tap = maps(model, batch)
    resized = F.interpolate(normalised(batch), (64, 64), mode='bilinear', align_corners=False, antialias=True)
    with torch.no_grad():
        (expected,) = model.roles.teacher.backbone(resized)
    torch.testing.assert_close(tap.levels[0], expected)
    assert output.area == BatchArea((64, 64), ((64, 64), (48, 32))) and tap.strides == ((16.0, 16.0),)
    with pytest.raises(ConfigError, match=r'roles\.teacher: no image of 128 x 128 pixels goes through BEiT .*`size='):
        pair(BEIT)


def test_padding_to_patches_moves_nothing():
    """Means of a ramp over patches of 14 and of 8 pixels agree where both are inside: law 6."""
    model = pair(dict(module='torch.nn:Conv2d', in_channels=3, out_channels=3, kernel_size=14, stride=14, groups=3))
    nn.init.constant_(model.roles.teacher.backbone.weight, 1 / 14**2)
    nn.init.zeros_(model.roles.teacher.backbone.bias)
    ramp = (torch.arange(104.0)[:, None] + 2 * torch.arange(120.0)).expand(1, 3, -1, -1)
    found = TapReader('teacher', model.roles.teacher).features(model.roles.teacher, ramp, ['feats'])
    ((level,), (stride,)) = found.taps['feats'], found.strides['feats']
    theirs, area = Grid(level, stride, found.area), BatchArea((104, 120), ((104, 120),))
    mine = Grid(F.avg_pool2d(ramp, 8), (8.0, 8.0), area)
    assert theirs.cells == (8, 9) and found.area.padded == (112, 126)
    torch.testing.assert_close(moved_onto(mine, theirs)[..., 1:7, 1:8], level[..., 1:7, 1:8], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize('output', ['tokens', 'dino', 'transformers'])
def test_tokens_are_maps_without_class_and_register_tokens(output):
    model, batch = pair(dict(TOKENS, output=output)), small_segmentors.batch(2, size=(30, 44))
    net, padded = model.roles.teacher.backbone, F.pad(normalised(batch), (0, 0, 0, 2))
    for tap in ('feats', 'backbone.blocks.0'):
        _, found = maps(model, batch, tap)
        with torch.no_grad():
            expected = net.blocks(net.patch_embed(padded).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        assert found.kind is Kind.MAP and found.levels[0].shape == (2, 8, 8, 11)
        torch.testing.assert_close(found.levels[0], expected)


def test_what_is_no_grid_of_the_image_stays_tokens():
    model = pair(TOKENS).roles.teacher
    images = torch.zeros(2, 3, 32, 32)
    assert model.as_map(torch.zeros(2, 64 + 3, 8), images).shape == (2, 8, 8, 8)
    assert model.as_map(torch.zeros(2, 16, 8), images).shape == (2, 8, 4, 4)  # a hierarchical one merged them
    assert model.as_map(torch.zeros(8, 16, 8), images).shape == (8, 16, 8)  # windows
    assert model.as_map(torch.zeros(2, 63, 8), images).shape == (2, 63, 8)
    assert model.as_map(torch.zeros(2, 8), images).shape == (2, 8)


# ---- weights --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_a_checkpoint_of_the_backbone_alone_fits(tmp_path, prefix):
    """Official files hold a head or what masked training needs beside it."""
    trained = {f'{prefix}{key}': value + 1 for key, value in Tokens().state_dict().items()}
    torch.save({**trained, 'head.weight': torch.zeros(2), 'mask_token': torch.zeros(1, 8)}, tmp_path / 'dino.pth')
    model = pair(TOKENS, checkpoint=str(tmp_path / 'dino.pth'))
    found = model.roles.teacher.backbone.state_dict()
    assert all(torch.equal(found[key.removeprefix(prefix)], value) for key, value in trained.items())
    assert model.frozen_roles['teacher'].from_file


def test_a_checkpoint_of_a_deeper_backbone_is_refused(tmp_path):
    torch.save(Tokens(depth=2).state_dict(), tmp_path / 'deep.pth')
    with pytest.raises(CheckpointError, match=r'roles\.teacher\.checkpoint.* Only in the file: backbone\.blocks\.1'):
        pair(TOKENS, checkpoint=str(tmp_path / 'deep.pth'))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp('data'))


def said(data, role, work_dir, caplog):
    """Train by a config with the teacher's check, and return what was logged."""
    cfg = offline(data, None)
    cfg.model.roles.teacher = role
    cfg.model.distillers = [transfer('feats[3]')]
    runner = runner_of(cfg, work_dir)
    runner.logger.addHandler(caplog.handler)
    runner.logger.setLevel(logging.INFO)
    runner.train()
    return '\n'.join(record.getMessage() for record in caplog.records)


def write_checkpoint(path, mean):
    """As MMPretrain writes that of a classifier, which knows classes of its own."""
    cfg = f"data_preprocessor = dict(mean={mean}, std={STD}, to_rgb=True)\nmodel = dict(type='ImageClassifier')"
    meta = dict(dataset_meta=dict(classes=['tench', 'goldfish']), cfg=cfg)
    torch.save(dict(meta=meta, state_dict=small_segmentors.build(teacher(SWIN)).state_dict()), path)


def test_a_run_with_a_checkpoint_is_neither_scored_nor_refused(data, tmp_path, caplog):
    write_checkpoint(tmp_path / 'swin.pth', MEAN)
    log = said(data, dict(cfg=teacher(SWIN), checkpoint=str(tmp_path / 'swin.pth')), tmp_path / 'work', caplog)
    assert "Frozen role 'teacher' is not scored: it is a backbone alone." in log and 'TEACHER CHECK' not in log


def test_a_run_with_other_images_than_the_checkpoint_is_refused(data, tmp_path, caplog):
    write_checkpoint(tmp_path / 'swin.pth', [0.0, 0.0, 0.0])
    with pytest.raises(ConfigError, match=r'it was trained with data_preprocessor\.mean=\(0\.0, 0\.0, 0\.0\)'):
        said(data, dict(cfg=teacher(SWIN), checkpoint=str(tmp_path / 'swin.pth')), tmp_path / 'work', caplog)


def test_weights_that_come_with_the_backbone_are_kept_and_random_ones_refused(data, tmp_path, caplog):
    state = small_segmentors.build(teacher(SWIN), seed=5).backbone.state_dict()
    torch.save({f'backbone.{key}': value for key, value in state.items()}, tmp_path / 'swin.pth')
    pretrained = dict(SWIN, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'swin.pth')))
    log = said(data, teacher(pretrained), tmp_path / 'work', caplog)
    assert "Frozen role 'teacher' is not scored: only what it teaches with is pretrained." in log
    model = pair(pretrained, 'feats[3]')
    assert torch.equal(model.roles.teacher.backbone.state_dict()['norm3.weight'], state['norm3.weight'])
    with pytest.raises(ConfigError, match='has no checkpoint and would teach random numbers'):
        said(data, teacher(SWIN), tmp_path / 'random', caplog)


def made_of_pretrained(**_):
    """A network whose constructor loads weights, and whose ``init_weights`` would draw them anew, as timm's does."""
    net = Tokens()
    net.init_weights = lambda: nn.init.zeros_(net.patch_embed.weight)
    nn.init.ones_(net.patch_embed.weight)
    return net


own_program = made_of_pretrained


def test_an_imported_network_that_names_pretrained_weights_keeps_them():
    backbone = dict(module=f'{__name__}:made_of_pretrained')
    for named in (backbone, dict(module=f'{__name__}:Tokens')):
        loaded = pair(named).frozen_roles['teacher'].loaded
        assert loaded == (named is backbone)
    for name in ('made_of_pretrained', 'own_program'):
        made = pair(dict(module=f'{__name__}:{name}')).roles.teacher.backbone
        assert bool((made.patch_embed.weight == 1).all())


# ---- what does not work ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('backbone', 'message'), [
    (dict(module='nowhere:Net'), r"backbone\.module='nowhere:Net': must be 'package:callable' of an installed package"),
    (dict(module='torch.nn:Conv9d'), "must be 'package:callable' of an installed package"),
    (dict(module='torch.nn:Conv2d', width=3), r"module='torch\.nn:Conv2d': .*unexpected keyword argument 'width'"),
    (dict(module='builtins:dict'), 'makes a dict, no torch.nn.Module'),
    (dict(width=3), 'name one of `type` and `module`'),
    (dict(type='NoSuchNet'), 'NoSuchNet is not in the'),
])  # fmt: skip
def test_a_backbone_that_is_not_there(backbone, message):
    with pytest.raises(ConfigError, match=rf'model\.roles\.teacher: .*{message}'):
        pair(backbone)


def test_what_it_cannot_do_is_one_sentence():
    roles = dict(student=small_segmentors.segmentor(4), teacher=teacher(SWIN))
    with pytest.raises(ConfigError, match=r"roles\.teacher: 'teacher' is a mmadm\.FeatureTeacher, .*list it in model"):
        small_segmentors.distillation(roles=roles)
    with pytest.raises(ConfigError, match=r"model\.deploy: 'teacher' is a mmadm\.FeatureTeacher"):
        small_segmentors.distillation(roles=roles, frozen=['teacher'], deploy='teacher')
    with pytest.raises(ConfigError, match="'teacher': a FeatureTeacher is a backbone alone and has no tap 'logits'"):
        pair(SWIN, 'logits')
    with pytest.raises(ConfigError, match=r'roles\.teacher: FeatureTeacher\.data_preprocessor: give the values'):
        small_segmentors.distillation(
            roles=dict(roles, teacher=dict(teacher(SWIN), data_preprocessor=None)), frozen=['teacher']
        )
