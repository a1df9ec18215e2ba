"""Frozen teachers that know other classes, or of which only the backbone is pretrained, may teach features."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import small_detectors
import torch
from frozen_teacher_trainings import offline, write_colours
from small_segmentors import build, segmentor
from small_trainings import NAMES, runner_of

from mmadm.utils.errors import CheckpointError, ConfigError

FEATURES = dict(type='mmadm.Transfer', source='teacher', learner='student', loss=dict(type='ChannelWiseDivergence'))


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_colours(tmp_path_factory.mktemp('data'))


def config(data: Path, checkpoint: object, at: str, teacher: dict | None = None):
    """Config of an offline training with one distiller, whose teacher is checked."""
    cfg = offline(data, checkpoint)
    cfg.model.distillers = [dict(FEATURES, at=at)]
    cfg.model.roles.teacher.cfg = teacher or segmentor(8)
    return cfg


def said(cfg, work_dir: Path, caplog) -> str:
    """Train, and return what was logged."""
    runner = runner_of(cfg, work_dir)
    runner.logger.addHandler(caplog.handler)
    runner.logger.setLevel(logging.INFO)
    runner.train()
    return '\n'.join(record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(('at', 'taught'), [('feats', True), ('decode_head.convs.0', True), ('logits', False)])
def test_other_classes_of_the_same_number(data, tmp_path, caplog, at, taught):
    meta = dict(dataset_meta=dict(classes=[*NAMES[1:], NAMES[0]]))
    torch.save(dict(meta=meta, state_dict=build(segmentor(8)).state_dict()), tmp_path / 'a.pth')
    cfg = config(data, tmp_path / 'a.pth', at)
    if taught:
        log = said(cfg, tmp_path / 'work', caplog)
        assert "Frozen role 'teacher' is not scored: it teaches features for other classes." in log
        assert 'TEACHER CHECK' not in log
    else:
        with pytest.raises(ConfigError, match='it was trained on the 5 classes'):
            runner_of(cfg, tmp_path / 'work').train()


def test_another_number_of_classes(data, tmp_path, caplog):
    """By the role's own config, or because only its head does not fit."""
    torch.save(dict(meta={}, state_dict=build(segmentor(8, classes=3)).state_dict()), tmp_path / 'a.pth')
    log = said(config(data, tmp_path / 'a.pth', 'feats'), tmp_path / 'a', caplog)
    assert 'is not scored: it teaches features for other classes' in log
    meta = dict(dataset_meta=dict(classes=NAMES[:3]))
    torch.save(dict(meta=meta, state_dict=build(segmentor(8, classes=3)).state_dict()), tmp_path / 'b.pth')
    log = said(config(data, tmp_path / 'b.pth', 'feats', segmentor(8, classes=3)), tmp_path / 'b', caplog)
    assert 'TEACHER CHECK' not in log


@pytest.fixture
def pretrained(tmp_path, monkeypatch) -> dict:
    """Config of a teacher whose backbone loads its own weights."""
    monkeypatch.chdir(tmp_path)
    torch.save(build(segmentor(8), seed=9).backbone.state_dict(), 'backbone.pth')
    teacher = segmentor(8)
    teacher['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='backbone.pth')
    return teacher


@pytest.mark.parametrize(
    ('at', 'taught'), [('feats', True), ('backbone.layer3', True), ('decode_head.convs.0', False), ('logits', False)]
)
def test_a_pretrained_backbone(data, tmp_path, caplog, pretrained, at, taught):
    cfg = config(data, None, at, pretrained)
    if taught:
        log = said(cfg, tmp_path, caplog)
        assert "Frozen role 'teacher' is not scored: only what it teaches with is pretrained." in log
    else:
        with pytest.raises(ConfigError, match='has no checkpoint and would teach random numbers'):
            runner_of(cfg, tmp_path).train()


def test_what_it_teaches_are_the_pretrained_features(data, tmp_path, pretrained):
    runner = runner_of(config(data, None, 'feats', pretrained), tmp_path)
    runner.train()
    found = runner.model.roles['teacher'].backbone.state_dict()
    assert all(torch.equal(found[key], value) for key, value in torch.load('backbone.pth').items())


def test_the_random_neck_of_a_detector_with_a_pretrained_backbone_teaches_nothing():
    teacher = small_detectors.detector('retinanet', 8)
    teacher['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='backbone.pth')
    roles = dict(student=small_detectors.detector('retinanet', 4), teacher=teacher)
    for at, loaded in (('feats', False), ('backbone', True)):
        with small_detectors.DefaultScope.overwrite_default_scope('mmdet'):
            cfg = dict(type='mmadm.Distillation', roles=roles, frozen=['teacher'], distillers=[dict(FEATURES, at=at)])
            assert small_detectors.MODELS.build(cfg).frozen_roles['teacher'].loaded == loaded


def test_a_backbone_whose_file_is_not_there_is_one_sentence(data, tmp_path, pretrained):
    pretrained['backbone']['init_cfg']['checkpoint'] = 'gone.pth'
    with pytest.raises(CheckpointError, match=r'model\.roles\.teacher: .*gone\.pth'):
        runner_of(config(data, None, 'feats', pretrained), tmp_path).train()
