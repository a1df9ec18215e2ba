"""A role's network is named, and changed in place."""

import pytest
from mmengine.config import Config

from mmadm.utils.config import read_config, resolve_config, role_cfgs, role_model_cfg
from mmadm.utils.errors import ConfigError

PSPNET = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
CASCADE = 'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py'


def test_override_changes_the_named_model_and_nothing_else():
    stock = role_model_cfg(dict(cfg=PSPNET))
    changed = role_model_cfg(dict(cfg=PSPNET, override=dict(decode_head=dict(num_classes=3), auxiliary_head=None)))
    assert changed['decode_head'].pop('num_classes') == 3 and stock['decode_head'].pop('num_classes') == 19
    assert changed.pop('auxiliary_head') is None and stock.pop('auxiliary_head')['num_classes'] == 19
    assert changed == stock


def test_override_reaches_into_lists_and_deletes():
    boxes = {str(stage): dict(num_classes=3) for stage in range(3)}
    override = dict(roi_head=dict(bbox_head=boxes), rpn_head=dict(_delete_=True, type='RPNHead', in_channels=8))
    changed = role_model_cfg(dict(cfg=CASCADE, override=override))
    assert [head['num_classes'] for head in changed['roi_head']['bbox_head']] == [3, 3, 3]
    assert changed['rpn_head'] == dict(type='RPNHead', in_channels=8)


def test_override_comes_from_the_command_line_too():
    cfg = Config(dict(model=dict(roles=dict(student=dict(cfg=PSPNET)))))
    cfg.merge_from_dict({'model.roles.student.override.decode_head.num_classes': 3})
    assert role_model_cfg(cfg.model.roles.student)['decode_head']['num_classes'] == 3


def test_override_goes_with_like():
    roles = dict(teacher=dict(cfg=PSPNET), student=dict(like='teacher', override=dict(backbone=dict(depth=34))))
    assert role_model_cfg(role_cfgs(roles)['student'])['backbone']['depth'] == 34


@pytest.mark.parametrize(
    ('name', 'override', 'message'),
    [
        (PSPNET, dict(decod_head=dict(num_classes=3)), r"override\.decod_head: .*did you mean 'decode_head'"),
        (
            PSPNET,
            dict(decode_head=dict(los_decode=dict(weight=1))),
            r'override\.decode_head\.los_decode: .*loss_decode',
        ),
        (PSPNET, 3, r'override=3: must be a dict'),
        (CASCADE, dict(roi_head=dict(bbox_head={'3': dict(num_classes=3)})), r'override=.*3'),
        (CASCADE, dict(roi_head=dict(bbox_head=dict(num_classes=3))), r'override=.*num_classes'),
    ],
)
def test_an_override_that_does_not_fit(name, override, message):
    with pytest.raises(ConfigError, match=message):
        role_model_cfg(dict(cfg=name, override=override))


@pytest.mark.parametrize(
    ('written', 'first'),
    [
        ('mmseg::pspnet_r18.py', 'pspnet/pspnet_r18-d8_'),
        ('mmseg::pspent/pspent_r18-d8_cityscapes.py', 'pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-'),
        ('mmseg::segformer_b0', 'segformer/segformer_mit-b0_'),
        ('mmdet::retinanet_r50_fpn_1x_coco.py', 'retinanet/retinanet_r50_fpn_1x_coco.py'),
        ('mmdet::faster_rcnn/faster_rcnn_r50.py', 'faster_rcnn/faster-rcnn_r50_'),
    ],
)
def test_of_an_unknown_config_those_with_its_words_are_named(written, first):
    with pytest.raises(ConfigError, match=rf"has no config '.*'; did you mean '{first}"):
        resolve_config(written)


def test_of_a_config_like_none_the_folders_are_named():
    with pytest.raises(ConfigError, match=r"mmseg has no config 'qqqq'; valid: '_base_', 'ann', .* more"):
        resolve_config('mmseg::qqqq')


@pytest.mark.parametrize(
    ('written', 'root'),
    [
        (r'C:\Users\new\data', 'C:/Users/new/data'),
        (r'\\server\share\11', '//server/share/11'),
        ('D:/data', 'D:/data'),
        ('/data/sets', '/data/sets'),
        ('https://host/data', 'https://host/data'),
    ],
)
def test_windows_paths_in_the_environment_reach_a_config(monkeypatch, repo_root, written, root):
    monkeypatch.setenv('MMADM_DATA', written)
    assert read_config(repo_root / 'configs/_base_/datasets/camvid.py').data_root == f'{root}/camvid'
