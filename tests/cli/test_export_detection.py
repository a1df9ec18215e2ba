"""A detector that leaves a training is stock: no key more or less, equal boxes, equal AP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from small_detectors import detector
from small_trainings import runner_of, same, weights_of

from mmadm.cli import export, test, train
from mmadm.demo.streets import make_streets

ROLES = ('student', 'teacher')


def loader(folder: Path, split: str, boxes: str) -> dict:
    """Config of a data loader over generated streets; `boxes` is the annotation file's name."""
    return dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
        dataset=dict(
            type='CocoDataset',
            data_root=str(folder),
            ann_file=f'annotations/{boxes}.json',
            data_prefix=dict(img=f'leftImg8bit/{split}/'),
            metainfo=dict(classes=('person', 'car', 'traffic sign')),
            test_mode=split != 'train',
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True),
                dict(type='Resize', scale=(160, 80), keep_ratio=True),  # predictions are scaled back
                dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
            ],
        ),
    )


def stock_config(folder: Path, boxes: str, model: dict) -> Config:
    """Config of a stock test, without mmadm; `boxes` names the annotations that predictions are scored with."""
    return Config(
        dict(
            default_scope='mmdet',
            model=model,
            test_dataloader=loader(folder, 'val', boxes),
            test_evaluator=dict(type='CocoMetric', ann_file=str(folder / f'annotations/{boxes}.json'), metric='bbox'),
            test_cfg=dict(type='TestLoop'),
        )
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Data, config, work dir and exported config of three iterations; ``own.json`` has boxes that are found."""
    folder = tmp_path_factory.mktemp('detection')
    make_streets(folder, train=4, val=4, size=(64, 128))
    roles = dict(student=detector('faster'), teacher=dict(cfg=detector('faster', 8)))
    cfg = stock_config(folder, 'own', dict(type='mmadm.Distillation', roles=roles))
    cfg.merge_from_dict(
        dict(
            model=dict(distillers=[
                dict(type='mmadm.MutualLearning', roles=ROLES), dict(type='mmadm.ADM', at='feats', foreground=True)
            ]),
            train_dataloader=loader(folder, 'train', 'instances_train'),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=3),
            optim_wrapper=dict(
                constructor='mmadm.RoleOptimWrapperConstructor',
                student=dict(optimizer=dict(type='SGD', lr=0.01)),
                teacher=dict(optimizer=dict(type='SGD', lr=0.01)),
            ),
            default_hooks=dict(
                checkpoint=dict(type='mmadm.RoleCheckpointHook', by_epoch=False, interval=3),
                guard=dict(type='mmadm.NonFiniteGuardHook'),
            ),
            log_level='ERROR',
            randomness=dict(seed=3),
        )
    )  # fmt: skip
    cfg.dump(folder / 'cfg.py')
    train.main([str(folder / 'cfg.py'), '--work-dir', str(folder / 'work')])
    for role in ROLES:
        out = ('--out', folder / f'{role}.pth', '--config-out', folder / f'{role}_stock.py')
        export.main([str(a) for a in (folder / 'work/iter_3.pth', '--role', role, *out)])
    write_own_boxes(folder)
    return folder


def stock_student(folder: Path) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(ConfigDict(detector('faster')))
    found = model.load_state_dict(torch.load(folder / 'work/iter_3_student.pth', weights_only=True)['state_dict'])
    assert not found.missing_keys and not found.unexpected_keys
    return model.eval()


@torch.no_grad()
def predictions(model: torch.nn.Module, folder: Path, boxes: str = 'instances_val') -> list[tuple[int, InstanceData]]:
    """What a model finds on the validation images, by image id."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        batches = Runner.build_dataloader(loader(folder, 'val', boxes))
        return [(sample.img_id, sample.pred_instances) for data in batches for sample in model.test_step(data)]


def write_own_boxes(folder: Path) -> None:
    """Annotate what the student finds, every other box a third too far right: an AP between 0 and 1 for a student that
    has learnt nothing yet."""
    content = json.loads((folder / 'annotations/instances_val.json').read_text())
    ids = [
        next(c['id'] for c in content['categories'] if c['name'] == name)
        for name in ('person', 'car', 'traffic sign')
    ]  # fmt: skip
    content['annotations'] = []
    for image, found in predictions(stock_student(folder), folder):
        for number, (box, label) in enumerate(zip(found.bboxes[:8].tolist(), found.labels[:8].tolist(), strict=True)):
            x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1, image_id=image, category_id=ids[label], iscrowd=0,
                    bbox=[x + number % 2 * width / 3, y, width, height], area=width * height,
                )
            )  # fmt: skip
    (folder / 'annotations/own.json').write_text(json.dumps(content))


def scores(work_dir: Path) -> dict[str, float]:
    """What the test run of a work dir logged."""
    (file,) = work_dir.glob('*/*.json')
    (entry,) = [entry for entry in map(json.loads, file.read_text().splitlines()) if 'coco/bbox_mAP' in entry]
    return {key: value for key, value in entry.items() if key.startswith('coco/')}


def test_the_student_file_loads_in_stock_mmdet_and_finds_equal_boxes(folder):
    stock = stock_student(folder)
    assert same(weights_of(folder / 'work/iter_3_student.pth'), weights_of(folder / 'student.pth'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        whole = MODELS.build(Config.fromfile(folder / 'cfg.py').model)
    whole.load_state_dict(weights_of(folder / 'work/iter_3.pth'))
    mine, theirs = predictions(whole.eval(), folder), predictions(stock, folder)
    assert len(mine) == 4
    for (image, one), (other_image, other) in zip(mine, theirs, strict=True):
        assert image == other_image and len(one) > 8
        assert torch.equal(one.bboxes, other.bboxes) and torch.equal(one.scores, other.scores)
        assert torch.equal(one.labels, other.labels)
    whole.predicting = 'teacher'
    assert not torch.equal(predictions(whole, folder)[0][1].scores[:8], mine[0][1].scores[:8])


@pytest.mark.parametrize('role', ROLES)
def test_the_test_tool_gives_the_ap_of_a_stock_test(folder, role, tmp_path):
    file = folder / f'{role}.pth'
    model = detector('faster', 4 if role == 'student' else 8)
    cfg = stock_config(folder, 'own', model)
    stock = runner_of(cfg, tmp_path / 'stock', load_from=str(file)).test()
    for name in (file, folder / 'work/iter_3.pth'):
        test.main([str(a) for a in (folder / 'cfg.py', name, '--role', role, '--work-dir', tmp_path / name.stem)])
        assert scores(tmp_path / name.stem) == {key: pytest.approx(value, abs=1e-6) for key, value in stock.items()}
    if role == 'student':
        assert 0.2 < stock['coco/bbox_mAP'] < stock['coco/bbox_mAP_50'] < 1
        assert stock['coco/bbox_mAP_75'] > 0
    else:
        assert stock['coco/bbox_mAP'] < 0.2


def test_the_exported_config_is_a_stock_test_too(folder, tmp_path):
    text = (folder / 'student_stock.py').read_text()
    assert 'mmadm' not in text
    cfg = Config.fromfile(folder / 'student_stock.py')
    found = runner_of(cfg, tmp_path, load_from=str(folder / 'student.pth')).test()
    expected = stock_config(folder, 'own', detector('faster'))
    again = runner_of(expected, tmp_path / 'again', load_from=str(folder / 'student.pth')).test()
    assert found == again and found['coco/bbox_mAP'] > 0.2
