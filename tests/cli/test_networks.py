"""What is read from a stock config: its task, classes and sizes."""

import pytest
from mmengine.config import Config

from mmadm.cli.methods_table import METHODS
from mmadm.cli.networks import class_count, classes_override, crop_size, families, read_network
from mmadm.utils.config import role_model_cfg
from mmadm.utils.errors import ConfigError

KINDS = {
    'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py': (['segmentation'], 19, (512, 1024)),
    'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py': (
        ['mask_queries', 'segmentation'],
        150,
        (512, 512),
    ),
    'mmseg::point_rend/pointrend_r50_4xb4-160k_ade20k-512x512.py': (['segmentation'], 150, (512, 512)),
    'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py': (['cascadercnn', 'two_stage', 'detection'], 80, None),
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py': (['dino', 'dinohead', 'detr', 'detection'], 80, None),
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py': (['rtmdet', 'rtmdetsepbnhead', 'detection'], 80, (640, 640)),
    'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py': (['mask_queries', 'detection'], 80, (1024, 1024)),
}


@pytest.mark.parametrize('name', KINDS)
def test_task_classes_and_crop(name):
    network = read_network(name, 'STUDENT')
    assert (families(network.model), class_count(network.model), crop_size(network.cfg)) == KINDS[name]


@pytest.mark.parametrize(
    ('name', 'methods'),
    [
        ('gfl/gfl_r50_fpn_1x_coco.py', {'fgd', 'bckd', 'ld', 'crosskd'}),
        ('atss/atss_r50_fpn_1x_coco.py', {'fgd', 'bckd', 'crosskd'}),
        ('rtmdet/rtmdet_tiny_8xb32-300e_coco.py', {'fgd', 'bckd'}),
        ('yolox/yolox_tiny_8xb8-300e_coco.py', {'fgd'}),
        ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', {'fgd'}),
        ('dino/dino-4scale_r50_8xb2-12e_coco.py', {'fgd'}),
        ('mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', set()),
    ],
)
def test_methods_for_some_heads_are_offered_for_these_alone(name, methods):
    kinds = families(read_network(f'mmdet::{name}', 'STUDENT').model)
    assert {method for method in ('fgd', 'bckd', 'ld', 'crosskd') if METHODS[method].recipe(kinds)} == methods


def test_weights_of_fgd_are_those_of_each_kind_of_detector():
    found = [METHODS['fgd'].recipe(kinds).distillers[0] for kinds in (['fcos'], ['x', 'two_stage'], ['detection'])]
    assert [cfg['foreground'] for cfg in found] == [1.6e-3, 5e-5, 1e-3]
    assert [cfg['relation'] for cfg in found] == [8e-6, 5e-7, 5e-6] and [cfg['tau'] for cfg in found] == [0.8, 0.5, 0.5]


@pytest.mark.parametrize(
    'name',
    [
        'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py',
        'mmseg::point_rend/pointrend_r50_4xb4-160k_ade20k-512x512.py',
        'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
        'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    ],
)
def test_the_number_of_classes_is_changed_everywhere(name):
    stock = role_model_cfg(dict(cfg=name))
    former = class_count(stock)
    changed = role_model_cfg(dict(cfg=name, override=classes_override(stock, 3)))
    assert str(changed).count("'num_classes': 3") == str(stock).count(f"'num_classes': {former}") > 0
    assert f"'num_classes': {former}" not in str(changed)
    if 'mask2former' in name:
        assert changed['decode_head']['loss_cls']['class_weight'] == [1.0, 1.0, 1.0, 0.1]
    assert classes_override(stock, former) == {}


def test_weights_of_single_classes_cannot_be_repeated():
    model = dict(decode_head=dict(num_classes=2, loss_decode=dict(class_weight=[1.0, 2.0])))
    with pytest.raises(ConfigError, match=r'--classes=3: the config weighs its 2 classes differently'):
        classes_override(model, 3)


def test_things_and_stuff_are_not_one_number():
    panoptic = role_model_cfg(dict(cfg='mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py'))
    assert class_count(panoptic) == 133
    with pytest.raises(ConfigError, match='does not have one `num_classes`'):
        classes_override(panoptic, 3)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a = (', r'STUDENT .*: cannot be read as a config \(SyntaxError'),
        ("_base_ = 'none.py'", r'cannot be read as a config \(FileNotFoundError'),
        ('a = 1', 'has no `model`'),
        ("model = dict(type='mmadm.Distillation', roles=dict())", 'is a distillation already'),
        ("model = dict(type='Odd')", "model.type='Odd': neither a segmentor"),
    ],
)
def test_what_is_no_training_of_one_network(text, message, tmp_path):
    (tmp_path / 'a.py').write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_network(str(tmp_path / 'a.py'), 'STUDENT')


def test_the_crop_is_found_inside_wrappers():
    crop = dict(type='RandomCrop', crop_size=(32, 64))
    inner = dict(type='BaseSegDataset', pipeline=[crop])
    wrapped = dict(type='ConcatDataset', datasets=[dict(type='RepeatDataset', dataset=inner)])
    cfg = Config(dict(train_dataloader=dict(dataset=wrapped)))
    assert crop_size(cfg) == (32, 64)
    inner['pipeline'].append(dict(type='RandomResize', scale=(100, 100)))
    assert crop_size(Config(dict(train_dataloader=dict(dataset=wrapped)))) is None
    assert crop_size(Config({})) is None
