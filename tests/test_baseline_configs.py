"""The baselines: every method for one segmentation and one detection pair, and a step of each at a small size."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_detectors
import small_segmentors
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from small_roles import SEGMENTATION_SIZE, small
from stock_configs import assert_trains_as, official_weights

from mmadm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS

ROOT = Path(__file__).resolve().parents[1] / 'configs/baselines'
ALL = sorted(path.stem for path in ROOT.glob('*.py'))
PAIRS = {
    '_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024': ('kd', 'dkd', 'cwd', 'dist', 'mgd', 'at', 'fitnet'),
    '_retinanet_r101_r50_fpn_1x_coco': ('kd', 'cwd', 'pkd', 'dist', 'mgd', 'at', 'fitnet'),
}
CROSSKD = {'loss_crosskd_classification', 'loss_crosskd_boxes'}
#: Methods with a distiller of their own, by pair, and what each logs
OWN = {
    '_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024': {
        'cirkd': {'loss_transfer', 'loss_cirkd_mini_batch', 'loss_cirkd_pixel', 'loss_cirkd_region'},
    },
    '_faster-rcnn_r101_r50_fpn_1x_coco': {'reviewkd': {'loss_reviewkd'}},
    '_retinanet_r101_r50_fpn_1x_coco': {
        'fgd': {'loss_fgd_foreground', 'loss_fgd_background', 'loss_fgd_attention', 'loss_fgd_relation'},
        'reviewkd': {'loss_reviewkd'},
        'crosskd': CROSSKD,
    },
    '_fcos_r101_r50-caffe_fpn_gn-head_1x_coco': {'crosskd': CROSSKD},
    '_atss_r101_r50_fpn_1x_coco': {'crosskd': {*CROSSKD, 'loss_crosskd_centerness'}},
    '_gfl_r101_r50_fpn_1x_coco': {
        'bckd': {'loss_bckd_cls', 'loss_bckd_boxes'},
        'ld': {'loss_ld_positives', 'loss_ld_region', 'loss_ld_classification'},
        'crosskd': CROSSKD,
    },
}
TRANSFERS = [method + pair for pair, methods in PAIRS.items() for method in methods]
OFFLINE = [*TRANSFERS, *(method + pair for pair, methods in OWN.items() for method in methods)]
ONLINE = [f'dml{pair}' for pair in PAIRS]
#: Ends of the names of task losses, and of what stock heads log beside them
STOCK = (
    '.loss_ce',
    '.acc_seg',
    '.acc',
    '.loss_rpn_cls',
    '.loss_rpn_bbox',
    '.loss_cls',
    '.loss_bbox',
    '.loss_centerness',
    '.loss_dfl',
)
PLAIN = [
    'pspnet_r18-d8_4xb2-80k_cityscapes-512x1024',
    'pspnet_r101-d8_4xb2-80k_cityscapes-512x1024',
    'retinanet_r50_fpn_1x_coco',
    'retinanet_r101_fpn_1x_coco',
]
#: Weight of a level (Transfer takes the mean over levels), from the sources that the configs name.
#: KD is divided by positives for each level, so that its mean is the sum of all priors' terms.
WEIGHTS = {'kd': 1 / 5, 'dkd': 1, 'dist': 1, 'fitnet': 1, 'cwd': 10, 'pkd': 10, 'mgd': 2e-5, 'at': 1000}
WEIGHTS_OF_SEGMENTORS = {**WEIGHTS, 'kd': 1, 'cwd': 5, 'at': 10000}


def config(name: str) -> Config:
    return Config.fromfile(ROOT / f'{name}.py', format_python_code=False)


def built(cfg: Config) -> torch.nn.Module:
    """The config's model with small roles."""
    for name, role in cfg.model.roles.items():
        cfg.model.roles[name] = small(role, dict(student=4, teacher=8)[name])
        if 'mmadm.CrossKD' in [distiller.type for distiller in cfg.model.get('distillers', ())]:
            cfg.model.roles[name].bbox_head.stacked_convs = 4  # it looks into the head
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        model.init_weights()
    return model.train()


def expected(name: str) -> set[str]:
    """What a config's distiller adds to the losses of each role that learns."""
    method, _, pair = name.partition('_')
    if name in PLAIN:
        return set()
    return OWN.get(f'_{pair}', {}).get(method, {'loss_mutual' if name in ONLINE else 'loss_transfer'})


def batch(name: str) -> dict:
    return (
        small_segmentors.batch(2, size=SEGMENTATION_SIZE, classes=19)
        if 'cityscapes' in name
        else small_detectors.batch(2)
    )


def test_every_method_has_a_config_for_each_pair():
    assert sorted([*OFFLINE, *ONLINE, *PLAIN]) == ALL


@pytest.mark.parametrize('name', OFFLINE)
def test_an_offline_method_has_an_official_teacher(name):
    model = config(name).model
    assert model.frozen == ['teacher'] and model.deploy == 'student'
    assert model.roles.teacher.checkpoint == official_weights(model.roles.teacher.cfg)


@pytest.mark.parametrize('name', ALL)
def test_every_row_trains_as_the_stock_student(name):
    ours = config(name)
    if name.startswith('fgd_'):  # FGD's own
        assert ours.optim_wrapper.pop('clip_grad') == dict(max_norm=35, norm_type=2)
    roles = ours.optim_wrapper if name in ONLINE else {'student': ours.optim_wrapper}
    assert_trains_as(ours, ours.model.roles.student.cfg, roles['student'])
    if name in ONLINE:
        assert roles['teacher'].optimizer == roles['student'].optimizer
        assert ours.model.frozen == []


@pytest.mark.parametrize('name', ALL)
def test_a_step_trains_the_roles_that_learn(name):
    cfg = config(name)
    model = built(cfg)
    wrapper = cfg.optim_wrapper.to_dict()
    constructor = wrapper.pop('constructor', 'DefaultOptimWrapperConstructor')
    paramwise = wrapper.pop('paramwise_cfg', None)
    builder = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(type=constructor, optim_wrapper_cfg=wrapper, paramwise_cfg=paramwise)
    )
    optimiser = builder(model)
    levels = []
    for distiller in model.distillers.values() if name in TRANSFERS else ():
        distiller.loss.register_forward_hook(lambda _module, _inputs, output: levels.append(output))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses = model(**model.data_preprocessor(batch(name), True), mode='loss')

    learners = {'student', 'teacher'} if name in ONLINE else {'student'}
    stock = {key for key in losses if key.endswith(STOCK)}
    distilled = {key: value for key, value in losses.items() if key not in stock}
    assert set(distilled) == {f'{role}.{loss}' for role in learners for loss in expected(name)}
    learnt = [p for p in model.parameters() if p.requires_grad]
    for key, value in distilled.items():
        found = torch.autograd.grad(value, learnt, allow_unused=True, retain_graph=True)
        assert any(g is not None and g.abs().sum() > 0 for g in found), key
    if name in TRANSFERS:
        weights = WEIGHTS_OF_SEGMENTORS if 'cityscapes' in name else WEIGHTS
        torch.testing.assert_close(distilled['student.loss_transfer'], weights[name.partition('_')[0]] * sum(levels))

    total, log = model.parse_losses(losses)
    optimiser.update_params(total)
    assert all(torch.isfinite(value).all() for value in log.values())
    moved = {key.split('.')[1] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved & set(model.roles) == learners
