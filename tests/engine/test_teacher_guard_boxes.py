"""The guard on boxes: the score counts only the images that were looked at, and a bad one stops the run."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import nn, ones

from mmadm.algorithms.loading import FrozenRole
from mmadm.algorithms.roles import Origin
from mmadm.engine import TeacherGuardHook
from mmadm.utils.errors import ConfigError

IMAGES = 300


class Seer(BaseModel):
    """A detector that finds every object, so many pixels beside where it is, or none at all."""

    def __init__(self, beside: float | None) -> None:
        super().__init__()
        self.beside = beside

    def forward(self, inputs, data_samples=None, mode='tensor'):
        for sample in data_samples:
            true = sample.gt_instances
            boxes = true.bboxes.tensor + (self.beside or 0.0)
            found = InstanceData(bboxes=boxes, labels=true.labels, scores=ones(len(boxes)))
            sample.pred_instances = found[:0] if self.beside is None else found
        return data_samples


class Teaching(BaseModel):
    """As much of a Distillation as the guard looks at."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.roles = nn.ModuleDict(dict(teacher=teacher))
        self.frozen = ('teacher',)
        self.origins = dict(teacher=Origin('seer.pth', {}, {}))
        self.frozen_roles = dict(
            teacher=FrozenRole(loaded=True, whole=True, predicts=True, features_only=False, from_file=True)
        )

    def forward(self, inputs, data_samples=None, mode='tensor'):
        raise AssertionError('only the teacher is asked')


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """A COCO data set of many equal images with a box each."""
    folder = tmp_path_factory.mktemp('boxes')
    cv2.imwrite(str(folder / 'image.png'), np.zeros((32, 32, 3), dtype=np.uint8))
    content = dict(
        images=[dict(id=i, file_name='image.png', width=32, height=32) for i in range(IMAGES)],
        categories=[dict(id=1, name='cell')],
        annotations=[
            dict(id=i + 1, image_id=i, category_id=1, bbox=[4, 4, 12, 12], area=144, iscrowd=0) for i in range(IMAGES)
        ],
    )
    (folder / 'boxes.json').write_text(json.dumps(content), encoding='utf-8')
    return folder


def runner_with(teacher: nn.Module, data: Path, work_dir: Path) -> Runner:
    dataset = dict(
        type='CocoDataset', data_root=str(data), ann_file='boxes.json', data_prefix=dict(img=''), test_mode=True,
        metainfo=dict(classes=('cell',)),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape', 'img_shape', 'scale_factor')),
        ],
    )  # fmt: skip
    return Runner(
        model=Teaching(teacher),
        work_dir=str(work_dir),
        experiment_name=work_dir.as_posix().replace('/', '_'),
        train_dataloader=dict(dataset=dataset, batch_size=1, sampler=dict(type='InfiniteSampler')),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        val_dataloader=dict(dataset=dataset, batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=dict(type='CocoMetric', ann_file=str(data / 'boxes.json'), metric='bbox'),
        val_cfg=dict(type='ValLoop'),
        default_scope='mmdet',
        log_level='ERROR',
    )


def test_images_that_were_not_looked_at_do_not_count_as_missed(data, tmp_path, caplog):
    """Boxes with an IoU of 0.62 have an AP of 0.3 on 2 images; on all 300 it would be below the limit."""
    runner = runner_with(Seer(1.5), data, tmp_path)
    runner.logger.addHandler(caplog.handler)
    runner.logger.setLevel('INFO')
    TeacherGuardHook(batches=2).before_train(runner)
    assert 'coco/bbox_mAP=0.3,' in caplog.text


def test_a_detector_that_finds_nothing_stops_the_run(data, tmp_path):
    with pytest.raises(ConfigError) as error:
        TeacherGuardHook(batches=2).before_train(runner_with(Seer(12.0), data, tmp_path))
    assert str(error.value).startswith(
        "model.roles.teacher.checkpoint='seer.pth': on 2 validation images frozen role 'teacher' scores "
        'coco/bbox_mAP=0.000 (0 to 1), where guessing scores 0 and a trained role at least 0.01; its weights'
    )


def test_a_detector_without_any_box_stops_the_run(data, tmp_path):
    """Of which mmdet's metric gives no score, not even 0."""
    with pytest.raises(ConfigError, match="'teacher' scores nothing: it detects no object in any of these images"):
        TeacherGuardHook(batches=2).before_train(runner_with(Seer(None), data, tmp_path))
