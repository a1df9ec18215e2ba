"""tools/export.py and tools/test.py: what leaves a training is stock and predicts the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from small_segmentors import batch, segmentor
from small_trainings import role_config, same, weights_of, write_images

from mmadm.cli import export, test, train
from mmadm.utils.checkpoint import read_checkpoint, write_checkpoint
from mmadm.utils.errors import CheckpointError, ConfigError
from mmadm.utils.export import extract_role, role_file
from mmadm.utils.export import role_config as stock_config_of

ROLES = ('student', 'teacher')


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Config, work dir and exported roles of a training with a role from a config file."""
    folder = tmp_path_factory.mktemp('export')
    cfg = role_config(write_images(folder / 'data'), iterations=8, role_val=True, val_interval=8, save_interval=8)
    Config(dict(model=segmentor(8, dropout=0.5), default_scope='mmseg')).dump(folder / 'teacher.py')
    cfg.model.roles.teacher = dict(cfg=str(folder / 'teacher.py'))
    cfg.default_hooks.checkpoint.save_best = 'student/mIoU'
    cfg.dump(folder / 'cfg.py')
    train.main([str(folder / 'cfg.py'), '--work-dir', str(folder / 'work')])
    for role in ROLES:
        run_export(folder, role, '--config-out', folder / f'{role}_stock.py')
    return folder


def run_export(folder: Path, role: str, *arguments: str | Path, out: Path | None = None) -> None:
    """Export a role to ``<role>.pth``."""
    out = out or folder / f'{role}.pth'
    export.main([str(a) for a in (folder / 'work/iter_8.pth', '--role', role, '--out', out, *arguments)])


def refused(capsys, tool, *arguments: str | Path) -> str:
    """Run a tool, which must end with code 1 and one line; returns that line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        tool.main([str(argument) for argument in arguments])
    assert ended.value.code == 1
    return capsys.readouterr().err.strip().splitlines()[-1]


def scores(work_dir: Path) -> dict[str, float]:
    """What the newest test or validation run of a work dir logged."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json')) or sorted(work_dir.glob('*/*.json'))
    (entry,) = [e for e in map(json.loads, files[-1].read_text().splitlines()) if any('mIoU' in key for key in e)]
    return {key: value for key, value in entry.items() if key.rpartition('/')[2] in ('aAcc', 'mIoU', 'mAcc')}


@pytest.mark.parametrize('role', ROLES)
def test_the_exported_config_and_checkpoint_are_stock_and_predict_the_same(folder, role):
    cfg = Config.fromfile(folder / f'{role}_stock.py')
    assert 'mmadm' not in cfg.pretty_text
    assert cfg.model.type == 'EncoderDecoder'
    full = Config.fromfile(folder / 'cfg.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        stock, distillation = MODELS.build(cfg.model), MODELS.build(full.model)
    stock.load_state_dict(torch.load(folder / f'{role}.pth', weights_only=True)['state_dict'], strict=True)
    distillation.load_state_dict(weights_of(folder / 'work/iter_8.pth'), strict=True)
    distillation.predicting = role
    with torch.no_grad():
        mine = distillation.eval().test_step(batch(3))
        theirs = stock.eval().test_step(batch(3))
    for one, other in zip(mine, theirs, strict=True):
        assert torch.equal(one.seg_logits.data, other.seg_logits.data)
        assert one.seg_logits.data.std() > 0


@pytest.mark.parametrize('role', ROLES)
def test_the_stock_runner_scores_it_as_the_training_did(folder, role, tmp_path):
    cfg = Config.fromfile(folder / f'{role}_stock.py')
    cfg.merge_from_dict(dict(work_dir=str(tmp_path), load_from=str(folder / f'{role}.pth'), experiment_name=role))
    found = Runner.from_cfg(cfg).test()
    logged = scores(folder / 'work')
    assert {f'{role}/{key}': pytest.approx(value, abs=1e-3) for key, value in found.items()} == {
        key: value for key, value in logged.items() if key.startswith(role)
    }


@pytest.mark.parametrize('role', ROLES)
def test_the_test_tool_takes_the_full_checkpoint_and_the_role_file(folder, role, tmp_path):
    for name in ('work/iter_8.pth', f'{role}.pth'):
        work = tmp_path / Path(name).stem
        test.main([str(folder / 'cfg.py'), str(folder / name), '--role', role, '--work-dir', str(work)])
        found = {f'{role}/{key}': pytest.approx(value, abs=1e-3) for key, value in scores(work).items()}
        assert found.items() <= {k: v for k, v in scores(folder / 'work').items() if k.startswith(role)}.items()


def test_the_test_tool_scores_the_deploy_role_and_paints(folder, tmp_path):
    shown = tmp_path / 'shown'
    checkpoint = folder / 'work/iter_8.pth'
    # mmengine keeps one visualizer per name in a process, and an earlier test may have made one for another folder
    fresh = ('--cfg-options', 'visualizer.name=shown')
    test.main([str(a) for a in (folder / 'cfg.py', checkpoint, '--work-dir', tmp_path, '--show-dir', shown, *fresh)])
    logged = scores(folder / 'work')
    assert scores(tmp_path)['mIoU'] == pytest.approx(logged['student/mIoU'], abs=1e-3)
    assert logged['student/mIoU'] != logged['teacher/mIoU']
    assert len(list(shown.rglob('*.png'))) == 3


def test_the_test_tool_runs_a_stock_config_too(folder, capsys, tmp_path):
    stock = [str(folder / 'student_stock.py'), str(folder / 'student.pth'), '--work-dir', str(tmp_path)]
    test.main(stock)
    assert scores(tmp_path)['mIoU'] == pytest.approx(scores(folder / 'work')['student/mIoU'], abs=1e-3)
    assert '--role=student: ' in refused(capsys, test, *stock, '--role', 'student')


def test_the_student_file_of_the_training_is_the_exported_one(folder):
    assert same(weights_of(role_file(folder / 'work/iter_8.pth', 'student')), weights_of(folder / 'student.pth'))


def test_a_wrong_role_is_refused_with_near_matches(folder, capsys, tmp_path):
    full = folder / 'work/iter_8.pth'
    hint = "did you mean 'student'?"
    assert hint in refused(capsys, export, full, '--role', 'studnet', '--out', tmp_path / 'a.pth')
    assert hint in refused(capsys, test, folder / 'cfg.py', full, '--role', 'studnet', '--work-dir', tmp_path)
    wrong = refused(
        capsys, test, folder / 'cfg.py', folder / 'student.pth', '--role', 'teacher', '--work-dir', tmp_path
    )
    assert "student.pth: no role 'teacher' in the checkpoint; valid: 'student'" in wrong
    assert not (tmp_path / 'a.pth').exists()


def test_the_input_is_never_overwritten(folder, capsys, tmp_path):
    full = folder / 'work/iter_8.pth'
    before = full.read_bytes()
    (tmp_path / 'link.pth').symlink_to(full)
    for out in (full, folder / 'work/../work/iter_8.pth', tmp_path / 'link.pth'):
        assert 'is the input' in refused(capsys, export, full, '--role', 'student', '--out', out)
    assert full.read_bytes() == before


@pytest.mark.parametrize('option', ['--out', '--config-out', '--onnx', '--tokens'])
def test_a_file_that_exists_is_overwritten_only_by_force(folder, capsys, tmp_path, option):
    there = tmp_path / 'there'
    there.write_text('mine')
    words = (
        [] if option == '--tokens' else ['--role', 'student', *([] if option == '--out' else ['--out', tmp_path / 'a'])]
    )
    told = refused(capsys, export, folder / 'work/iter_8.pth', *words, option, there)
    assert f'{there} exists: give another {option}, or --force to overwrite it' in told
    assert there.read_text() == 'mine' and not (tmp_path / 'a').exists()
    if option == '--out':
        run_export(folder, 'student', '--force', out=there)
        assert weights_of(there).keys() == weights_of(folder / 'student.pth').keys()


def test_another_architecture_is_counted(folder, capsys, tmp_path):
    options = ['--work-dir', tmp_path, '--cfg-options', 'model.roles.student.decode_head.channels=6']
    error = refused(capsys, test, folder / 'cfg.py', folder / 'student.pth', *options)
    assert 'student.pth is of another architecture' in error
    assert '0 are missing and 6 have another shape, 0 are unknown' in error


class TestStockConfig:
    @pytest.fixture
    def cfg(self, folder) -> Config:
        return Config.fromfile(folder / 'cfg.py')

    def test_the_role_keeps_its_own_optimiser_and_schedule(self, cfg):
        cfg.optim_wrapper.accumulative_counts = 2
        teacher = stock_config_of(cfg, 'teacher')
        assert teacher.optim_wrapper == dict(
            type='OptimWrapper',
            accumulative_counts=2,
            optimizer=dict(type='Adam', lr=0.002),
            clip_grad=dict(max_norm=1),
        )
        assert [scheduler.type for scheduler in teacher.param_scheduler] == ['LinearLR']
        assert teacher.train_dataloader == cfg.train_dataloader

    def test_one_optimiser_for_all_roles_stays(self, cfg):
        cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
        cfg.param_scheduler = [dict(type='PolyLR')]
        student = stock_config_of(cfg, 'student')
        assert student.optim_wrapper == cfg.optim_wrapper
        assert student.param_scheduler == [dict(type='PolyLR')]

    def test_a_frozen_role_has_nothing_to_train_with(self, cfg):
        cfg.model.frozen = ['teacher']
        teacher = stock_config_of(cfg, 'teacher')
        gone = {'train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler'}
        assert not gone & set(teacher)
        assert gone < set(stock_config_of(cfg, 'student'))

    def test_hooks_and_loops_become_stock(self, cfg):
        cfg.custom_hooks = [dict(type='mmadm.X'), dict(type='EMAHook')]
        student, teacher = (stock_config_of(cfg, role) for role in ROLES)
        assert student.default_hooks.checkpoint == dict(
            type='CheckpointHook', by_epoch=False, interval=8, save_best='mIoU'
        )
        assert 'save_best' not in teacher.default_hooks.checkpoint
        assert 'guard' not in student.default_hooks
        assert student.val_cfg == dict(type='ValLoop')
        assert student.custom_hooks == [dict(type='EMAHook')]
        assert student.test_evaluator == cfg.test_evaluator

    @pytest.mark.parametrize('inside', [True, False])
    def test_a_preprocessor_for_all_roles_goes_into_the_model(self, cfg, inside):
        (cfg.model if inside else cfg).data_preprocessor = dict(type='SegDataPreProcessor', pad_val=7)
        del cfg.model.roles.student['data_preprocessor']
        assert stock_config_of(cfg, 'student').model.data_preprocessor.pad_val == 7
        assert 'pad_val' not in stock_config_of(cfg, 'teacher').model.data_preprocessor

    def test_the_given_config_is_left_alone(self, cfg):
        before = cfg.pretty_text
        stock_config_of(cfg, 'student')
        assert cfg.pretty_text == before

    def test_a_stock_config_has_no_roles(self, cfg):
        with pytest.raises(ConfigError, match=r"found 'EncoderDecoder', which has no roles"):
            stock_config_of(Config(dict(model=dict(type='EncoderDecoder'))), 'student')


def test_a_stock_checkpoint_has_no_roles(tmp_path):
    write_checkpoint({'meta': {}, 'state_dict': {'backbone.a': torch.zeros(1)}}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='checkpoint of a single stock model'):
        extract_role(read_checkpoint(tmp_path / 'a.pth'), 'student')


def test_roles_with_a_common_beginning_are_kept_apart():
    state = {'roles.t.a': torch.zeros(1), 'roles.t2.a': torch.ones(1), 'connectors.adm.x.a': torch.ones(1)}
    assert extract_role({'meta': {}, 'state_dict': state}, 't')['state_dict'] == {'a': torch.zeros(1)}
