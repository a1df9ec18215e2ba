"""The detection configs: coco_mini's run for two iterations, COCO's train as MMDetection does, one of them steps."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from small_detectors import batch

from mmadm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from mmadm.utils.config import resolve_config, role_model_cfg
from mmadm.utils.optim_config import role_optimiser

ROOT = Path(__file__).resolve().parents[1] / 'configs'
FAMILIES = sorted(path.stem for path in (ROOT / 'coco_mini').glob('*.py'))
#: the file of MMDetection whose training each config repeats, for both roles
STOCK = {
    'retinanet_r101_r50_fpn_1x': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'retinanet_r101_r50_fpn_2x': 'retinanet/retinanet_r50_fpn_2x_coco.py',
    'faster-rcnn_r101_r50_fpn_1x': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'faster-rcnn_r101_r50_fpn_2x': 'faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py',
    'fcos_r101_r50-caffe_fpn_gn-head_1x': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'fcos_r101_r50-caffe_fpn_gn-head_ms-640-800-2x': 'fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py',
    'gfl_r101_r50_fpn_1x': 'gfl/gfl_r50_fpn_1x_coco.py',
    'gfl_r101_r50_fpn_ms-2x': 'gfl/gfl_r50_fpn_ms-2x_coco.py',
    'rtmdet_s_tiny_8xb32-300e': 'rtmdet/rtmdet_s_8xb32-300e_coco.py',
}
TASK_LOSSES = {
    'retinanet': {'loss_cls', 'loss_bbox'},
    'fcos': {'loss_cls', 'loss_bbox', 'loss_centerness'},
    'atss': {'loss_cls', 'loss_bbox', 'loss_centerness'},
    'gfl': {'loss_cls', 'loss_bbox', 'loss_dfl'},
    'reppoints': {'loss_cls', 'loss_pts_init', 'loss_pts_refine'},
    'rtmdet': {'loss_cls', 'loss_bbox'},
    'faster_rcnn': {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox'},
    'mask_rcnn': {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'},
    'cascade_rcnn': {'loss_rpn_cls', 'loss_rpn_bbox'},
    'deformable_detr': {'loss_cls', 'loss_bbox', 'loss_iou', 'd0.loss_cls'},
    'dino': {'loss_cls', 'enc_loss_cls', 'dn_loss_cls'},
}


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """A COCO folder with the 80 classes, category ids with gaps, boxes and polygons, and a landscape and a portrait."""
    from mmdet.datasets import CocoDataset

    folder = tmp_path_factory.mktemp('data')
    ids = [index + 1 + index // 8 for index in range(80)]
    categories = [dict(id=i, name=name) for i, name in zip(ids, CocoDataset.METAINFO['classes'], strict=True)]
    rng = np.random.default_rng(0)
    (folder / 'coco_mini/annotations').mkdir(parents=True)
    for split, sizes in (('train2017', [(96, 128)] * 4), ('val2017', [(96, 128), (128, 96)])):
        (folder / 'coco_mini' / split).mkdir()
        images, annotations = [], []
        for index, (height, width) in enumerate(sizes):
            name = f'{index:012}.jpg'
            cv2.imwrite(
                str(folder / 'coco_mini' / split / name), rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
            )
            images.append(dict(id=index, file_name=name, height=height, width=width))
            for number in range(3):
                x, y, w, h = (int(v) for v in rng.integers([0, 0, 20, 20], [40, 40, 50, 50]))
                annotations.append(
                    dict(
                        id=10 * index + number,
                        image_id=index,
                        category_id=ids[7 * number + index],
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                        segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                    )
                )
        content = dict(images=images, annotations=annotations, categories=categories)
        (folder / f'coco_mini/annotations/instances_{split}.json').write_text(json.dumps(content))
    return folder


class Start(Hook):
    """Keeps the weights that training starts from."""

    def before_train(self, runner: Runner) -> None:
        self.weights = {name: weight.clone() for name, weight in runner.model.named_parameters()}


def test_every_family_has_a_config():
    assert set(FAMILIES) == set(TASK_LOSSES)


@pytest.mark.parametrize('family', FAMILIES)
def test_family_trains_two_iterations_and_validates(family, data, tmp_path, monkeypatch):
    monkeypatch.setenv('MMADM_DATA', str(data))
    loaded = Config.fromfile(ROOT / f'coco_mini/{family}.py')
    cfg = Config(loaded.to_dict(), format_python_code=False)  # formatting takes most of the time
    cfg.work_dir, cfg.experiment_name, cfg.log_level = str(tmp_path), f'coco_mini_{family}', 'ERROR'
    for part in ('train', 'val'):
        for step in cfg[f'{part}_dataloader'].dataset.pipeline:
            if step['type'] == 'Resize':
                step['scale'] = (128, 96)  # as large as the written images: seconds instead of a minute
    runner = Runner.from_cfg(cfg)
    start = Start()
    runner.register_hook(start)
    runner.train()
    log = {name: history.data for name, history in runner.message_hub.log_scalars.items()}
    both = ('student', 'teacher')
    wanted = {f'{role}.{loss}' for role in both for loss in TASK_LOSSES[family]}
    wanted |= {'student.loss_consensus', 'teacher.loss_divergence'}
    if 'encoder' not in cfg.model.roles.student:
        wanted |= {'student.loss_mutual', 'teacher.loss_mutual'}
    if family == 'cascade_rcnn':
        wanted |= {'student.loss_cls', 'teacher.s0.loss_cls', 'teacher.s2.loss_bbox'}
    lacking = {loss for loss in wanted if len(log.get(f'train/{loss}', [])) != 2}
    assert not lacking, lacking
    assert all(math.isfinite(value) for name in log for value in np.ravel(log[name]) if name.startswith('train/'))
    kinds = ('bbox', 'segm') if family == 'mask_rcnn' else ('bbox',)
    assert all(0 <= log[f'val/{role}/coco/{kind}_mAP'][-1][0] <= 1 for role in both for kind in kinds)
    for role in both:
        own = {name: weight for name, weight in runner.model.named_parameters() if name.startswith(f'roles.{role}.')}
        still = sorted(name for name, weight in own.items() if torch.equal(weight, start.weights[name]))
        assert len(still) < 0.1 * len(own), still
    assert (tmp_path / 'iter_2_student.pth').is_file()


def coco(name: str) -> tuple[Config, Config]:
    """A config of mmadm and the stock config that it repeats."""
    ours = Config.fromfile(ROOT / f'adm/adm_{name}_coco.py')
    return ours, Config.fromfile(resolve_config(f'mmdet::{STOCK[name]}'))


def hooks_of(cfg: Config) -> list[dict]:
    """The stock hooks of a config, ours that averages both roles among them."""
    hooks = [dict(hook) for hook in cfg.get('custom_hooks', [])]
    for hook in hooks:
        if hook['type'] == 'mmadm.RoleEMAHook':
            hook['type'] = 'EMAHook'
            assert hook.pop('roles') == ['student', 'teacher']
        if 'switch_pipeline' in hook:
            hook['switch_pipeline'] = plain(hook['switch_pipeline'])
    return hooks


def plain(pipeline: list) -> list:
    """A pipeline without what only says where files are read from."""
    return [{key: value for key, value in step.items() if key != 'backend_args'} for step in pipeline]


def test_every_coco_config_is_compared_with_a_stock_one():
    assert {path.stem for path in (ROOT / 'adm').glob('*_coco.py')} == {f'adm_{name}_coco' for name in STOCK}


@pytest.mark.parametrize('name', STOCK)
def test_coco_config_trains_as_mmdetection_does(name):
    ours, stock = coco(name)
    for key in ('optimizer', 'paramwise_cfg', 'clip_grad'):
        for role in ('student', 'teacher'):
            assert role_optimiser(ours.optim_wrapper, role).get(key) == stock.optim_wrapper.get(key)
    assert hooks_of(ours) == hooks_of(stock)
    assert ours.param_scheduler == stock.param_scheduler
    assert ours.train_cfg == stock.train_cfg
    assert ours.auto_scale_lr.base_batch_size == (256 if 'rtmdet' in name else stock.auto_scale_lr.base_batch_size)
    for part in ('train', 'val', 'test'):
        mine, theirs = ours[f'{part}_dataloader'], stock[f'{part}_dataloader']
        assert plain(mine.dataset.pipeline) == plain(theirs.dataset.pipeline)
        for key in ('type', 'ann_file', 'data_prefix', 'filter_cfg', 'test_mode'):
            assert str(mine.dataset.get(key)).replace('/', '') == str(theirs.dataset.get(key)).replace('/', ''), key
        assert mine.batch_size == theirs.batch_size
        assert mine.sampler == theirs.sampler
        assert mine.get('batch_sampler') == theirs.get('batch_sampler')


@pytest.mark.parametrize('name', STOCK)
def test_coco_config_names_two_depths_of_one_detector(name):
    ours, stock = coco(name)
    student, teacher = (role_model_cfg(ours.model.roles[role]) for role in ('student', 'teacher'))
    assert student['type'] == teacher['type'] == stock.model.type
    if 'rtmdet' in name:
        assert (student['backbone']['widen_factor'], teacher['backbone']['widen_factor']) == (0.375, 0.5)
    else:
        assert (student['backbone']['depth'], teacher['backbone']['depth']) == (50, 101)
        student['backbone'] = teacher['backbone'] = None
        assert student == teacher
    assert ours.model.frozen == [] and ours.model.deploy == 'student'


def test_a_coco_config_makes_a_step_at_a_small_size():
    ours, _ = coco('rtmdet_s_tiny_8xb32-300e')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(ours.default_scope):
        for role, cfg in ours.model.roles.items():
            stock = role_model_cfg(cfg)
            stock['data_preprocessor']['pad_size_divisor'] = 32  # what the data pipeline's padding does in a run
            ours.model.roles[role] = stock
        model = revert_sync_batchnorm(MODELS.build(ours.model)).train()
    wrapper = ours.optim_wrapper.to_dict()
    constructor = wrapper.pop('constructor')
    optimisers = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type=constructor, optim_wrapper_cfg=wrapper))(model)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    log = model.train_step(batch(2, size=(96, 128), classes=80), optimisers)
    assert all(torch.isfinite(value).all() for value in log.values())
    assert {'student.loss_mutual', 'teacher.loss_mutual', 'student.loss_consensus', 'teacher.loss_divergence'} <= set(
        log
    )
    still = [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])]
    assert len(still) < 0.02 * len(before), still[:5]
    connectors = {name for name in before if name.startswith('connectors.')}
    assert len(connectors) == 3 and not connectors & set(still)  # 96 to 128 channels on three levels
