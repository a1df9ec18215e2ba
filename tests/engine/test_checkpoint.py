"""Checkpoints: role files, removal, crashes, and what a resume needs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from small_segmentors import build, segmentor
from small_trainings import Break, role_config, runner_of, same, stock_config, write_images

from mmadm.engine.generators import ResumeGenerators, restore, snapshot
from mmadm.utils.checkpoint import (
    RESUMABLE,
    check_same_tensors,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from mmadm.utils.errors import CheckpointError, ConfigError
from mmadm.utils.weights import read_weights

STOCK_HOOK = dict(type='CheckpointHook', by_epoch=False, interval=2)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


def train(cfg, work_dir: Path, **settings) -> dict[str, torch.Tensor]:
    """Train in this process; returns a copy of the weights."""
    runner = runner_of(cfg, work_dir, **settings)
    runner.train()
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


def break_and_resume(cfg, work_dir: Path, iteration: int) -> dict[str, torch.Tensor]:
    """Train until an iteration, then go on from the newest checkpoint with a new runner."""
    with pytest.raises(InterruptedError):
        train(cfg, work_dir, custom_hooks=[Break(iteration)])
    return train(cfg, work_dir, resume=True, load_from=str(newest_checkpoint(work_dir)))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob('*.pth*')}


@pytest.fixture(scope='module')
def kept(data, tmp_path_factory) -> tuple[Path, dict[int, float]]:
    """Work dir of a training that keeps one checkpoint and the best one, and all its scores by iteration."""
    folder = tmp_path_factory.mktemp('roles')
    (folder / 'mine_student.pth').touch()
    cfg = role_config(data, iterations=6)
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=1, save_best='student/mIoU')
    runner = runner_of(cfg, folder)
    runner.train()
    scores, _ = runner.message_hub.get_scalar('val/student/mIoU').data
    return folder, dict(zip((2, 4, 6), scores, strict=True))


class TestRoleFiles:
    def test_each_kept_checkpoint_has_its_role_file_and_no_other_is_left(self, kept):
        folder, scores = kept
        full = {'iter_6', f'best_student_mIoU_iter_{max(scores, key=scores.get)}'}
        assert names(folder) == {f'{name}{end}.pth' for name in full for end in ('', '_student')} | {'mine_student.pth'}

    def test_a_role_file_holds_the_stock_model_and_the_meta(self, kept):
        folder, _ = kept
        for file in (folder / 'iter_6.pth', *folder.glob('best_student_mIoU_iter_?.pth')):
            full, role = read_checkpoint(file), read_checkpoint(file.with_name(f'{file.stem}_student.pth'))
            assert set(role) == {'meta', 'state_dict'}
            # a checkpoint with a new best score is written twice, its role file once
            assert {**role['meta'], 'time': 0} == {**full['meta'], 'role': 'student', 'time': 0}
            assert role['meta']['dataset_meta']['classes'][0] == 'class0'
            stock = build(segmentor(4)).state_dict()
            assert list(role['state_dict']) == list(stock)
            assert role['state_dict']['backbone.bn1.num_batches_tracked'] == full['meta']['iter']
            assert same(role['state_dict'], {key: full['state_dict'][f'roles.student.{key}'] for key in stock})
            assert role['state_dict']._metadata == stock._metadata

    def test_several_best_scores(self, data, tmp_path):
        cfg = role_config(data, iterations=2, role_val=True)
        cfg.default_hooks.checkpoint.save_best = ['student/mIoU', 'teacher/aAcc']
        train(cfg, tmp_path)
        full = {'iter_2.pth', 'best_student_mIoU_iter_2.pth', 'best_teacher_aAcc_iter_2.pth'}
        assert names(tmp_path) == full | {f'{Path(name).stem}_student.pth' for name in full}

    def test_a_stock_model_has_none(self, data, tmp_path):
        cfg = stock_config(data, iterations=2)
        cfg.default_hooks.checkpoint.save_best = 'mIoU'
        train(cfg, tmp_path)
        assert names(tmp_path) == {'iter_2.pth', 'best_mIoU_iter_2.pth'}

    def test_an_unknown_best_score_is_named(self, data, tmp_path):
        cfg = role_config(data, iterations=2)
        cfg.default_hooks.checkpoint.save_best = 'student/mIou'
        with pytest.raises(ConfigError, match=r"save_best='student/mIou'.*did you mean 'student/mIoU'"):
            train(cfg, tmp_path)
        assert names(tmp_path) == {'iter_2.pth', 'iter_2_student.pth'}

    def test_another_storage_is_refused(self, data, tmp_path):
        cfg = stock_config(data)
        cfg.default_hooks.checkpoint.backend_args = dict(backend='petrel')
        with pytest.raises(ConfigError, match=r'checkpoint\.backend_args'):
            runner_of(cfg, tmp_path)

    def test_a_resumed_training_leaves_the_role_file_of_the_former_best(self, data, tmp_path):
        cfg = role_config(data, iterations=2)
        cfg.default_hooks.checkpoint.save_best = 'student/mIoU'
        train(cfg, tmp_path)
        best = tmp_path / 'best_student_mIoU_iter_2_student.pth'
        before = best.stat().st_mtime_ns
        longer = dict(type='IterBasedTrainLoop', max_iters=3, val_begin=9)
        train(cfg, tmp_path, train_cfg=longer, resume=True, load_from=str(tmp_path / 'iter_2.pth'))
        assert 'iter_3_student.pth' in names(tmp_path)
        assert best.stat().st_mtime_ns == before


class TestNewest:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        """Complete checkpoints 2, 10 and 8, written in this order, a role file, and a note that says 2."""
        whole = {key: {} for key in RESUMABLE}
        for age, number in ((3, 2), (2, 10), (1, 8)):
            write_checkpoint(whole, tmp_path / f'iter_{number}.pth')
            os.utime(tmp_path / f'iter_{number}.pth', (10000 - age, 10000 - age))
        write_checkpoint({'meta': {}, 'state_dict': {}}, tmp_path / 'iter_10_student.pth')
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_2.pth'))
        return tmp_path

    def test_the_note_counts(self, folder):
        assert newest_checkpoint(folder) == folder / 'iter_2.pth'

    @pytest.mark.parametrize('text', ['', 'iter_', '/moved/iter_10.pth', 'a\0b', 'x' * 9999, '\udcff'])
    def test_without_a_good_note_the_newest_file_counts(self, folder, text):
        (folder / 'last_checkpoint').write_text(text, errors='surrogateescape')
        assert newest_checkpoint(folder) == folder / 'iter_8.pth'

    def test_a_link_that_leads_nowhere_does_not_count_but_is_no_empty_folder(self, folder):
        (folder / 'last_checkpoint').unlink()
        (folder / 'iter_99.pth').symlink_to('/nowhere')
        assert newest_checkpoint(folder) == folder / 'iter_8.pth'
        for number in (2, 8, 10):
            (folder / f'iter_{number}.pth').unlink()
        with pytest.raises(CheckpointError, match=r'iter_99\.pth: no such checkpoint'):
            newest_checkpoint(folder)

    def test_a_torn_file_does_not_count(self, folder):
        (folder / 'last_checkpoint').write_text(str(folder / 'iter_8.pth'))
        os.truncate(folder / 'iter_8.pth', 300)
        os.utime(folder / 'iter_8.pth', (10000, 10000))
        assert newest_checkpoint(folder) == folder / 'iter_10.pth'

    def test_nothing_to_resume_from(self, tmp_path):
        assert newest_checkpoint(tmp_path) is None

    def test_only_torn_files_are_an_error_because_a_new_start_would_overwrite_them(self, folder):
        for file in folder.glob('iter_*.pth'):
            os.truncate(file, 300)
        with pytest.raises(CheckpointError, match=r'can be resumed from: .*iter_2\.pth is truncated'):
            newest_checkpoint(folder)


class TestReading:
    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(CheckpointError, match=r'no\.pth: no such checkpoint'):
            read_checkpoint(tmp_path / 'no.pth')

    @pytest.mark.parametrize('size', [0, 1, 300])
    def test_a_truncated_file_is_named(self, tmp_path, size):
        write_checkpoint({'meta': {}, 'state_dict': {'a': torch.zeros(100)}}, tmp_path / 'a.pth')
        os.truncate(tmp_path / 'a.pth', size)
        with pytest.raises(CheckpointError, match=r'a\.pth is truncated or not a checkpoint'):
            read_checkpoint(tmp_path / 'a.pth')

    @pytest.mark.parametrize('text', ['hello', 'the weights', 'version https://git-lfs', '{"a": 1}', '<!DOCTYPE html>'])
    def test_of_a_text_is_said_what_it_is_not(self, tmp_path, text):
        (tmp_path / 'a.pth').write_text(text)
        with pytest.raises(CheckpointError) as refused:
            read_checkpoint(tmp_path / 'a.pth')
        told = 'a.pth is truncated or not a checkpoint: it is no file that torch.save wrote to its end'
        assert str(refused.value) == f'{tmp_path}/{told}'

    def test_what_is_lacking_is_named(self, tmp_path):
        write_checkpoint({'meta': {}, 'state_dict': {}}, tmp_path / 'a.pth')
        with pytest.raises(CheckpointError, match=r"no 'message_hub' and no 'optimizer'; .*full checkpoint"):
            read_checkpoint(tmp_path / 'a.pth', RESUMABLE)

    @pytest.mark.parametrize(
        ('key', 'entry'),
        [('meta', 'a'), ('state_dict', [1]), ('state_dict', {'a': 'b'}), ('state_dict', {1: torch.zeros(1)})],
    )
    def test_what_is_no_checkpoint_of_a_training_is_named(self, tmp_path, key, entry):
        write_checkpoint({'meta': {}, 'state_dict': {}, key: entry}, tmp_path / 'a.pth')
        with pytest.raises(CheckpointError, match=rf"a\.pth: its '{key}' is not"):
            read_checkpoint(tmp_path / 'a.pth')
        if key == 'state_dict':
            with pytest.raises(CheckpointError, match=r"load_from='.*a\.pth' holds no state_dict"):
                read_weights(str(tmp_path / 'a.pth'), 'load_from')

    def test_how_many_tensors_do_not_fit_is_said(self):
        model = torch.nn.Linear(2, 3)
        own = model.state_dict()
        check_same_tensors(model, own, 'x.pth')
        loaded = {'weight': torch.zeros(2), 'd': torch.zeros(1), 'e': torch.zeros(1)}
        with pytest.raises(CheckpointError, match=r'the 2 tensors .* 1 are missing and 1 have .* shape, 2 are unknown'):
            check_same_tensors(model, loaded, 'x.pth')


class TestSameNumbersAsStock:
    @pytest.mark.parametrize(('workers', 'persistent'), [(0, False), (1, True)])
    def test_validation_and_saving_move_the_generators_as_stock_does(self, data, tmp_path, workers, persistent):
        cfg = stock_config(data, iterations=5, workers=workers, persistent=persistent)
        stock = train(cfg, tmp_path / 'stock', default_hooks=dict(checkpoint=STOCK_HOOK))
        never = dict(type='IterBasedTrainLoop', max_iters=5, val_interval=99, val_begin=99)
        assert same(train(cfg, tmp_path / 'ours'), stock)
        # the comparison can only tell something because validation does move a generator
        assert not same(train(cfg, tmp_path / 'never', train_cfg=never), stock)


class TestResume:
    def test_at_the_end_of_a_pass_over_a_finite_loader(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)
        cfg = stock_config(data, iterations=10, val_interval=4, save_interval=4, infinite=False)
        whole = train(cfg, tmp_path / 'whole')
        assert same(break_and_resume(cfg, tmp_path / 'broken', 6), whole)

    def test_with_a_validation_interval_that_changes(self, data, tmp_path):
        cfg = stock_config(data, iterations=6, val_interval=5, save_interval=3)
        cfg.default_hooks.checkpoint.save_best = 'mIoU'  # so iter_3.pth is written again during validation
        cfg.train_cfg.dynamic_intervals = [(3, 3)]
        whole = train(cfg, tmp_path / 'whole')
        assert same(break_and_resume(cfg, tmp_path / 'broken', 5), whole)

    def test_an_epoch_loop(self, data, tmp_path):
        cfg = stock_config(data, infinite=False)
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1)
        cfg.default_hooks.checkpoint.update(by_epoch=True, interval=1)
        whole = train(cfg, tmp_path / 'whole')
        assert same(break_and_resume(cfg, tmp_path / 'broken', 10), whole)

    def test_weights_alone_do_not_bring_their_generators(self, data, tmp_path):
        cfg = stock_config(data, iterations=2)
        train(cfg, tmp_path / 'first')
        random = dict(torch=torch.arange(5056, dtype=torch.uint8))
        checkpoint = read_checkpoint(tmp_path / 'first/iter_2.pth')
        write_checkpoint({**checkpoint, 'generators': {'ranks': [random], 'batch_drawn': False}}, tmp_path / 'odd.pth')
        first = train(cfg, tmp_path / 'plain', load_from=str(tmp_path / 'first/iter_2.pth'))
        assert same(train(cfg, tmp_path / 'odd', load_from=str(tmp_path / 'odd.pth')), first)

    def test_a_checkpoint_of_the_stock_hook_can_be_resumed_with_a_warning(self, data, tmp_path):
        cfg = stock_config(data, iterations=4)
        train(cfg, tmp_path, default_hooks=dict(checkpoint=STOCK_HOOK))
        resumed = runner_of(cfg, tmp_path, resume=True, load_from=str(tmp_path / 'iter_2.pth'), log_level='WARNING')
        resumed.train()
        assert resumed.iter == 4
        (log,) = Path(resumed.log_dir).glob('*.log')
        assert 'The checkpoint has no generator states' in log.read_text()


def test_snapshots_cover_all_generators():
    import random

    state = snapshot()
    drawn = (torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random())
    restore(state, host=False)
    assert torch.rand(2).tolist() == drawn[0]
    assert np.random.rand(2).tolist() != drawn[1]
    restore(state)
    assert (torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()) == drawn
    assert ResumeGenerators().record()['batch_drawn'] is False
