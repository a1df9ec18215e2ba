"""``mmadm distill``: which weights it wants and offers, and what it says of those that do not fit."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from distill_command import build, refused
from mmengine.config import Config
from mmengine.logging import MMLogger
from stock_trainings import STOCK

from mmadm.cli import distill
from mmadm.cli.trial import build_model


def test_published_weights_are_offered(here, capsys):
    for method, further in (('kd', ', or --no-frozen'), ('sokd', '')):
        told = refused(capsys, STOCK['pspnet'], STOCK['pspnet'], '--method', method)
        address = r'https://\S+/pspnet_r18-d8_512x1024_80k_cityscapes/\S+\.pth\b'  # each stack has a server
        assert re.search(f'give --teacher-checkpoint {address}', told) and ('--no-frozen' in told) == bool(further)
    url = told.partition('--teacher-checkpoint ')[2]
    distill.main([STOCK['pspnet'], STOCK['pspnet'], '--method', 'kd', '--teacher-checkpoint', url, '--out', 'a.py'])
    assert Config.fromfile('a.py').model.roles.teacher.checkpoint == url


def test_adm_on_random_features_is_one_line_with_what_to_set(here, capsys):
    def warnings(*words):
        distill.main([*words, '--force', '--out', 'a.py'])
        return [line for line in ' '.join(capsys.readouterr().out.split()).split(' - ') if 'warning' in line]

    pair = ['../pspnet_student.py', '../pspnet_teacher.py']
    (line,) = warnings(*pair)
    assert 'the teacher starts from random weights' in line
    settings = line.partition('--set ')[2].split()
    assert warnings(*pair, '--set', *settings) == []
    adm = Config.fromfile('a.py').model.distillers[1]
    assert (adm.type, adm.consensus, adm.schedule) == ('mmadm.ADM', 1, dict(warmup='linear', length=1000))
    assert build_model(Config.fromfile('a.py'))
    assert warnings(*pair, '--teacher-checkpoint', '../pspnet.pth') == []
    assert warnings(*pair, '--method', 'dml') == []
    assert warnings('../pspnet_student.py', STOCK['pspnet']) == []  # from ImageNet weights


def test_a_checkpoint_of_another_network(here, capsys, caplog, monkeypatch):
    """Its head and the 3x3 convolutions of a bottleneck fit, which is no network; a head of other classes is."""
    deep = Config.fromfile('../pspnet_student.py')
    deep.model.backbone.depth = 50
    for head, channels in (('decode_head', 256), ('auxiliary_head', 128)):
        deep.model[head].in_channels = channels
    deep.dump('deep.py')
    torch.save(dict(meta={}, state_dict=build(Path('deep.py')).state_dict()), 'deep.pth')
    words = ['../pspnet_student.py', '../pspnet_student.py', '--method', 'dml', '--out', 'a.py', '--student-checkpoint']
    told = refused(capsys, *words, 'deep.pth')
    assert 'model.roles.student.checkpoint' in told and 'made for another architecture' in told
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'handlers', [caplog.handler])
    distill.main([*words, '../pspnet_same.pth', '--classes', '4'])
    assert [record.levelname for record in caplog.records if "fits role 'student' in part" in record.message]
