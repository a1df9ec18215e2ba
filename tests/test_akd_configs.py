"""The AKD configs: official teachers, the student's stock training, and a step of each at a small size."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import small_detectors
import small_segmentors
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from small_roles import SEGMENTATION_SIZE, small
from stock_configs import assert_trains_as, official_weights

from mmadm.modules import ReceptiveTokens
from mmadm.registry import MODELS
from mmadm.utils.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[1] / 'configs/akd'
ALL = sorted(path.stem for path in ROOT.glob('*.py'))
PAIRS = [name for name in ALL if name.startswith('akd_')]
#: Number of transfer losses, where it is not one
TRANSFERS = {'maskd': 2, 'reppoints': 3, 'faster-rcnn_r101': 3, 'faster-rcnn_cascade': 2}


def config(name: str) -> Config:
    return Config.fromfile(ROOT / f'{name}.py', format_python_code=False)


def built(cfg: Config, tmp_path: Path) -> torch.nn.Module:
    """The config's model with small roles and random tokens."""
    for width, (name, role) in zip((4, 8), cfg.model.roles.items(), strict=False):
        cfg.model.roles[name] = small(role, width)
    for distiller in cfg.model.get('distillers', []):
        if 'tokens' in distiller.loss:
            distiller.loss.tokens = str(tmp_path / 'tokens.pth')
            torch.save(ReceptiveTokens(6, [32] * 5).state_dict(), distiller.loss.tokens)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        model.init_weights()
    return model.train()


def test_all_pairs_of_the_paper_are_there():
    pairs = {name.partition('_')[2].partition('_')[2].partition('_r50')[0] for name in PAIRS if 'coco' in name}
    assert pairs == {
        'retinanet_r101',
        'retinanet_x101-64x4d',
        'faster-rcnn_r101',
        'faster-rcnn_cascade-mask-x101-64x4d',
        'fcos_r101',
        'reppoints_x101-dconv-c3-c5',
    }
    for pair in ('pspnet_r101-d8_r18-d8', 'deeplabv3_r101-d8_r18-d8', 'segformer_mit-b4_mit-b0'):
        assert any(pair in name and 'cityscapes' in name for name in PAIRS)


@pytest.mark.parametrize('name', ALL)
def test_the_teacher_is_an_official_one(name):
    teacher = config(name).model.roles.teacher
    assert teacher.checkpoint == official_weights(teacher.cfg)


@pytest.mark.parametrize('name', PAIRS)
def test_the_student_trains_as_the_stock_one(name):
    ours = config(name)
    assert_trains_as(ours, ours.model.roles.student.cfg)
    assert ours.model.frozen == ['teacher'] and ours.model.deploy == 'student'


@pytest.mark.parametrize('name', PAIRS)
def test_a_step_moves_only_the_student(name, tmp_path):
    cfg = config(name)
    model = built(cfg, tmp_path)
    segments = 'cityscapes' in name
    data = small_segmentors.batch(2, size=SEGMENTATION_SIZE, classes=19) if segments else small_detectors.batch(2)
    teacher = {key: value.clone() for key, value in model.roles['teacher'].state_dict().items()}
    before = {key: value.clone() for key, value in model.roles['student'].named_parameters()}
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    transfers = {key: value for key, value in losses.items() if 'loss_transfer' in key}
    assert len(transfers) == next((number for part, number in TRANSFERS.items() if part in name), 1)
    learnt = [p for p in model.parameters() if p.requires_grad]
    owners = [*model.roles['student'].parameters(), *model.connectors.parameters()]
    assert {id(p) for p in learnt} <= {id(p) for p in owners}
    for key, value in transfers.items():
        assert torch.isfinite(value) and value > 0 and key.startswith('student.')
        found = torch.autograd.grad(value, learnt, allow_unused=True, retain_graph=True)
        assert any(g is not None and g.abs().sum() > 0 for g in found), key
    total, logged = model.parse_losses(losses)
    build_optim_wrapper(model, cfg.optim_wrapper).update_params(total)
    assert all(torch.isfinite(value).all() for value in logged.values())
    after = model.roles['teacher'].state_dict()
    assert all(torch.equal(after[key], value) for key, value in teacher.items())
    moved = [key for key, p in model.roles['student'].named_parameters() if not torch.equal(p, before[key])]
    assert len(moved) > 0.5 * len(before)


@pytest.mark.parametrize('name', [name for name in ALL if name not in PAIRS])
def test_tokens_are_learnt_on_the_teacher_of_the_distillation(name, tmp_path):
    cfg = config(name)
    user = config(next(other for other in PAIRS if 'maskd' in other and name.split('_')[3] in other))
    assert cfg.model.roles.teacher == user.model.roles.teacher
    assert user.model.distillers[0].loss.tokens == f'work_dirs/{name}/tokens.pth'
    assert user.model.distillers[0].at == cfg.model.at
    model = built(cfg, tmp_path)
    assert {key: tuple(value.shape) for key, value in model.tokens.state_dict().items()} == {
        str(level): (6, 32) for level in range(5)
    }


def test_an_unreachable_teacher_says_how_to_pass_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('no_proxy', '*')
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        port = found.getsockname()[1]
    cfg = config('akd_cwd_retinanet_r101_r50_fpn_2x_coco')
    url = f'http://127.0.0.1:{port}/teacher.pth'
    cfg.merge_from_dict({'model.roles.teacher.checkpoint': url})
    for name, role in cfg.model.roles.items():
        cfg.model.roles[name] = dict(cfg=small(role, 4), checkpoint=role.get('checkpoint'))
    with (
        DefaultScope.overwrite_default_scope('mmdet'),
        pytest.raises(CheckpointError, match=rf'model\.roles\.teacher\.checkpoint={url!r}.*path of a complete local'),
    ):
        MODELS.build(cfg.model)
