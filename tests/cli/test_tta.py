"""``mmadm test --tta`` against the stock Runner with the stock wrapper of test-time augmentation."""

from __future__ import annotations

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from small_segmentors import segmentor
from small_trainings import role_config, stock_config, write_images

from mmadm.cli import test
from mmadm.utils.export import extract_role

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale_factor=r, keep_ratio=True) for r in (0.5, 1.0)],
            [dict(type='RandomFlip', prob=p, direction='horizontal') for p in (0.0, 1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]


def scores(work_dir):
    (file,) = work_dir.glob('*/*.json')
    return json.loads(file.read_text().splitlines()[-1])


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Folder with a config and the checkpoint of roles that were not trained."""
    folder = tmp_path_factory.mktemp('tta')
    cfg = role_config(write_images(folder / 'data'))
    cfg.merge_from_dict(dict(tta_model=dict(type='SegTTAModel'), tta_pipeline=PIPELINE))
    for role, width in (('student', 4), ('teacher', 8)):  # with logits that stand for the sizes of images
        cfg.model.roles[role] = segmentor(width)
        cfg.model.roles[role].data_preprocessor.pop('size')
        cfg.model.roles[role].data_preprocessor.size_divisor = 32
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
    for role in model.roles.values():  # else all pixels would be of one class
        role.decode_head.conv_seg.weight.data.normal_()
        for _ in range(30):
            role.train()(torch.randn(2, 3, 64, 64), mode='tensor')
    torch.save(dict(meta={}, state_dict=model.state_dict()), folder / 'iter_1.pth')
    cfg.dump(folder / 'cfg.py')
    return folder


@pytest.mark.parametrize('role', ['student', 'teacher'])
def test_the_score_is_that_of_the_stock_tool(run, tmp_path, role):
    test.main(
        [str(run / 'cfg.py'), str(run / 'iter_1.pth'), '--role', role, '--tta', '--work-dir', str(tmp_path / 'ours')]
    )
    cfg = stock_config(run / 'data')
    cfg.test_dataloader.dataset.pipeline = PIPELINE
    module = Config.fromfile(run / 'cfg.py').model.roles[role]
    cfg.model = dict(type='SegTTAModel', module=module)
    cfg.merge_from_dict(dict(work_dir=str(tmp_path / 'stock'), experiment_name=f'tta_{role}'))
    runner = Runner.from_cfg(cfg)
    checkpoint = torch.load(run / 'iter_1.pth', weights_only=True)
    runner.model.module.load_state_dict(extract_role(checkpoint, role)['state_dict'])
    expected = runner.test()
    assert {key: pytest.approx(value) for key, value in expected.items()}.items() <= scores(tmp_path / 'ours').items()
    test.main([str(run / 'cfg.py'), str(run / 'iter_1.pth'), '--role', role, '--work-dir', str(tmp_path / 'plain')])
    assert scores(tmp_path / 'plain')['mIoU'] != pytest.approx(expected['mIoU'])


def test_a_segmentor_without_augmentations_is_refused(run, tmp_path, capsys):
    cfg = Config.fromfile(run / 'cfg.py')
    cfg.pop('tta_pipeline')
    cfg.dump(tmp_path / 'cfg.py')
    with pytest.raises(SystemExit):
        test.main([str(tmp_path / 'cfg.py'), str(run / 'iter_1.pth'), '--tta', '--work-dir', str(tmp_path)])
    assert 'error: --tta needs tta_pipeline in the config' in capsys.readouterr().err


def test_a_detector_has_the_defaults_of_mmdetection():
    inner = dict(type='CocoDataset', pipeline=[dict(type='LoadImageFromFile'), dict(type='PackDetInputs')])
    loader = dict(dataset=dict(type='RepeatDataset', dataset=inner))
    cfg = Config(dict(default_scope='mmdet', model=dict(type='RetinaNet'), test_dataloader=loader))
    test.augment(cfg)
    assert cfg.model.type == 'DetTTAModel' and cfg.model.module.type == 'RetinaNet'
    first, last = cfg.test_dataloader.dataset.pipeline
    assert first.type == 'LoadImageFromFile'
    assert [step.prob for step in last.transforms[0]] == [1.0, 0.0]
