"""Full checkpoints leave out the frozen roles that have a file, and a resumed run takes them from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from frozen_teacher_trainings import offline
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from numpy_files import written_by
from small_segmentors import build, segmentor
from small_trainings import Break, load_tool, runner_of, same, weights_of, write_images

from mmadm.utils.checkpoint import read_checkpoint
from mmadm.utils.errors import CheckpointError

export, test, train = load_tool('export'), load_tool('test'), load_tool('train')
STOCK_HOOK = dict(type='CheckpointHook', by_epoch=False, interval=2)


def teacher_file(path: Path, seed: int) -> Path:
    """Checkpoint of a teacher, with what mmengine and users put into ``meta``."""
    meta = dict(score=np.float64(0.5), palette=np.arange(15).reshape(5, 3), loss=HistoryBuffer([0.5], [1]))
    torch.save(dict(meta=meta, state_dict=build(segmentor(8), seed).state_dict()), path)
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Data, a teacher's file as NumPy 1 wrote it, the config of an offline training, and what four iterations leave."""
    folder = tmp_path_factory.mktemp('left_out')
    write_images(folder / 'data')
    written_by(1, teacher_file(folder / 'teacher.pth', seed=7))
    cfg = config(folder)
    cfg.dump(folder / 'cfg.py')
    train.main([str(folder / 'cfg.py'), '--work-dir', str(folder / 'work')])
    return folder


def config(folder: Path, iterations: int = 4, **options):
    cfg = offline(folder / 'data', folder / 'teacher.pth', 'off', iterations=iterations, val_interval=9, **options)
    # what a user may write there, and what a checkpoint then holds
    cfg.train_dataloader.dataset.metainfo.update(extra=dict(weights=np.ones(5).tolist()), palette=[[1, 2, 3]] * 5)
    return cfg


def trained(cfg, work_dir: Path, **settings):
    """Train in this process; returns the runner."""
    runner = runner_of(cfg, work_dir, **settings)
    runner.train()
    return runner


def refused(capsys, tool, *arguments: object) -> str:
    """Run a tool, which must end with one line; returns that line."""
    capsys.readouterr()
    with pytest.raises(SystemExit):
        tool.main([str(argument) for argument in arguments])
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_the_checkpoint_lacks_the_teacher_and_says_where_it_is(folder):
    checkpoint = read_checkpoint(folder / 'work/iter_4.pth')
    assert {key.split('.')[1] for key in checkpoint['state_dict'] if key.startswith('roles.')} == {'student'}
    assert checkpoint['meta']['left_out'] == {'teacher': str(folder / 'teacher.pth')}
    assert 'left_out' not in read_checkpoint(folder / 'work/iter_4_student.pth')['meta']


@pytest.mark.parametrize('version', [1, 2])
def test_a_resumed_run_ends_as_the_whole_one(folder, tmp_path, version):
    """Also when another NumPy has written the checkpoint."""
    cfg = config(folder)
    with pytest.raises(InterruptedError):
        trained(cfg, tmp_path, custom_hooks=[Break(3)])
    written_by(version, tmp_path / 'iter_2.pth')
    arguments = [folder / 'cfg.py', '--work-dir', tmp_path, '--resume']
    train.main([str(argument) for argument in arguments])
    assert same(weights_of(tmp_path / 'iter_4.pth'), weights_of(folder / 'work/iter_4.pth'))


def test_a_plain_runner_resumes_it_with_the_teacher_of_the_file(folder, tmp_path, capsys):
    runner = runner_of(config(folder, 5), tmp_path, resume=True, load_from=str(folder / 'work/iter_4.pth'))
    runner.train()
    assert runner.iter == 5
    assert same(runner.model.roles['teacher'].state_dict(), weights_of(folder / 'teacher.pth'))
    assert 'do not match' not in capsys.readouterr().out  # as mmengine prints of a state dict that lacks something


def test_another_teacher_in_its_file_is_noticed_on_resume(folder, tmp_path, capsys):
    cfg = config(folder, 5)
    cfg.model.roles.teacher.checkpoint = str(teacher_file(tmp_path / 'teacher.pth', seed=8))
    cfg.dump(tmp_path / 'cfg.py')
    resume = ['--resume', folder / 'work/iter_4.pth']
    error = refused(capsys, train, tmp_path / 'cfg.py', '--work-dir', tmp_path, *resume)
    assert f"roles.teacher.checkpoint='{tmp_path}/teacher.pth' holds other weights than when this training" in error
    with pytest.raises(CheckpointError, match='holds other weights than when this training began'):
        trained(cfg, tmp_path, resume=True, load_from=str(folder / 'work/iter_4.pth'))
    moved = teacher_file(tmp_path / 'moved.pth', seed=7)  # the same weights elsewhere are the same teacher
    cfg.model.roles.teacher.checkpoint = str(moved)
    assert trained(cfg, tmp_path, resume=True, load_from=str(folder / 'work/iter_4.pth')).iter == 5


class TestCheckpointsThatHoldTheTeacher:
    """As written before, or by the stock hook."""

    @pytest.fixture(scope='class')
    def old(self, folder, tmp_path_factory) -> Path:
        work = tmp_path_factory.mktemp('old')
        with pytest.raises(InterruptedError):
            trained(config(folder), work, custom_hooks=[Break(3)], default_hooks=dict(checkpoint=STOCK_HOOK))
        assert any(key.startswith('roles.teacher.') for key in weights_of(work / 'iter_2.pth'))
        return work

    def test_they_resume(self, folder, old, tmp_path):
        arguments = [folder / 'cfg.py', '--work-dir', tmp_path, '--resume', old / 'iter_2.pth']
        train.main([str(argument) for argument in arguments])
        # dropout differs, as the stock hook saves no generators; the teacher is in its file, so it is left out again
        assert weights_of(tmp_path / 'iter_4.pth').keys() == weights_of(folder / 'work/iter_4.pth').keys()

    def test_they_resume_without_the_teachers_file_and_keep_the_teacher(self, folder, old, tmp_path, capsys):
        gone = f'model.roles.teacher.checkpoint={tmp_path}/gone.pth'
        cfg = config(folder)
        cfg.model.roles.student = dict(cfg=segmentor(4, dropout=0.5), inherit=dict(teacher=['decode_head.conv_seg']))
        cfg.dump(tmp_path / 'cfg.py')
        arguments = [tmp_path / 'cfg.py', '--work-dir', tmp_path, '--resume', old / 'iter_2.pth', '--cfg-options', gone]
        train.main([str(argument) for argument in arguments])
        assert "gone.pth' is gone: the weights are those of the resumed checkpoint." in capsys.readouterr().out
        found, expected = weights_of(tmp_path / 'iter_4.pth'), weights_of(folder / 'teacher.pth')
        assert same({k.removeprefix('roles.teacher.'): v for k, v in found.items() if 'teacher' in k}, expected)
        role = tmp_path / 'teacher.pth'
        export.main([str(tmp_path / 'iter_4.pth'), '--role', 'teacher', '--out', str(role)])
        assert same(weights_of(role), expected)

    def test_a_teacher_that_is_not_the_one_of_the_file_is_kept(self, folder, old, tmp_path):
        """`load_from` replaces it: then its file would be no place to take it from."""
        cfg = config(folder, 2)
        cfg.model.roles.teacher.checkpoint = str(teacher_file(tmp_path / 'other.pth', seed=8))
        trained(cfg, tmp_path, load_from=str(old / 'iter_2.pth'))
        found, expected = weights_of(tmp_path / 'iter_2.pth'), weights_of(folder / 'teacher.pth')
        assert same({k.removeprefix('roles.teacher.'): v for k, v in found.items() if 'teacher' in k}, expected)


@pytest.mark.parametrize('start', [None, dict(type='Pretrained', checkpoint='backbone.pth')])
def test_a_frozen_role_without_a_file_is_kept(folder, tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    torch.save(build(segmentor(8), seed=9).backbone.state_dict(), 'backbone.pth')
    cfg = config(folder, 2)
    cfg.model.roles.teacher.pop('checkpoint')
    cfg.model.roles.teacher.cfg.backbone.init_cfg = start
    runner = trained(cfg, tmp_path)
    found = weights_of(tmp_path / 'iter_2.pth')
    teacher = runner.model.roles['teacher'].state_dict()
    assert same({k.removeprefix('roles.teacher.'): v for k, v in found.items() if 'teacher' in k}, teacher)


def test_resuming_without_the_teacher_anywhere_is_one_sentence(folder, tmp_path, capsys):
    resume = [folder / 'cfg.py', '--work-dir', tmp_path, '--resume', folder / 'work/iter_4.pth', '--cfg-options']
    gone = refused(capsys, train, *resume, f'model.roles.teacher.checkpoint={tmp_path}/gone.pth')
    assert gone.startswith(f"error: model.roles.teacher.checkpoint='{tmp_path}/gone.pth': no such file. Give an exist")
    none = refused(capsys, train, *resume, 'model.roles.teacher.checkpoint=None')
    assert (
        "does not hold frozen role 'teacher', and nor does the config name its file: set model.roles.teacher.c" in none
    )
    cfg = config(folder)
    cfg.model.roles.teacher.pop('checkpoint')
    with pytest.raises(CheckpointError, match=r'does not hold frozen role'):
        trained(cfg, tmp_path, resume=True, load_from=str(folder / 'work/iter_4.pth'))


def test_a_hook_may_load_a_part_of_the_weights():
    """As SyncNormHook does with the batch norms of all roles, where a frozen one has none."""
    roles = dict(student=segmentor(4), teacher=segmentor(8, norm='GN'))
    model = build(dict(type='mmadm.Distillation', roles=roles, frozen=['teacher']))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    norm = model.roles.student.backbone.bn1
    model.load_state_dict({'roles.student.backbone.bn1.running_mean': norm.running_mean + 1}, strict=False)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {'roles.student.backbone.bn1.running_mean'}


def test_export_and_test_take_the_teacher_from_its_file(folder, tmp_path, capsys):
    full = folder / 'work/iter_4.pth'
    export.main(
        [str(full), '--role', 'teacher', '--out', str(tmp_path / 't.pth'), '--config-out', str(tmp_path / 't.py')]
    )
    assert same(weights_of(tmp_path / 't.pth'), weights_of(folder / 'teacher.pth'))
    assert read_checkpoint(tmp_path / 't.pth')['meta']['score'] == 0.5
    assert Config.fromfile(tmp_path / 't.py').model.backbone.base_channels == 8
    test.main([str(folder / 'cfg.py'), str(full), '--role', 'teacher', '--work-dir', str(tmp_path)])
    checkpoint, moved = read_checkpoint(full), tmp_path / 'moved.pth'
    checkpoint['meta']['left_out']['teacher'] = 'gone.pth'
    torch.save(checkpoint, moved)
    error = refused(capsys, export, moved, '--role', 'teacher', '--out', tmp_path / 'x.pth')
    assert "moved.pth leaves out frozen role 'teacher': checkpoint='gone.pth': no such file" in error


def test_averages_of_the_student_resume_with_it(folder, tmp_path):
    cfg = config(folder, 4)
    cfg.custom_hooks = [dict(type='mmadm.RoleEMAHook', momentum=0.5)]
    whole = trained(cfg, tmp_path / 'whole')
    assert not [key for key in weights_of(tmp_path / 'whole/iter_2.pth') if 'roles.teacher.' in key]
    resumed = trained(cfg, tmp_path / 'resumed', resume=True, load_from=str(tmp_path / 'whole/iter_2.pth'))
    assert same(resumed.model.state_dict(), whole.model.state_dict())
    assert same(*(read_checkpoint(tmp_path / name / 'iter_4.pth')['ema_state_dict'] for name in ('whole', 'resumed')))
