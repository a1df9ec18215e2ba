"""Saving where it fails: a full disk, a crash, a note that is a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mmengine.hooks import CheckpointHook
from small_trainings import role_config, runner_of, stock_config, write_images

from mmadm.utils.checkpoint import newest_checkpoint, write_atomically


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


def train(cfg, work_dir: Path, **settings) -> None:
    """Train in this process."""
    runner_of(cfg, work_dir, **settings).train()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob('*.pth*')}


def test_a_crash_while_writing_leaves_the_former_checkpoint(data, tmp_path, monkeypatch):
    cfg = role_config(data, iterations=4, save_interval=2)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    replace = os.replace

    def full_disk(source, target):
        if Path(target).name == 'iter_4.pth':
            raise OSError(28, 'No space left on device')
        replace(source, target)

    monkeypatch.setattr(os, 'replace', full_disk)
    with pytest.raises(OSError, match='No space left') as full:
        train(cfg, tmp_path)
    assert full.value.filename == str(tmp_path / 'iter_4.pth')
    assert names(tmp_path) == {'iter_2.pth', 'iter_2_student.pth'}
    assert newest_checkpoint(tmp_path) == tmp_path / 'iter_2.pth'


@pytest.mark.parametrize('best', ['auto', ['student/mIoU', 'student/aAcc']])
def test_a_best_checkpoint_that_the_newest_does_not_know_of_yet_counts(data, tmp_path, monkeypatch, best):
    cfg = role_config(data, iterations=4)
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=1, save_best=best, rule='greater')
    train(cfg, tmp_path / 'whole')
    replace, seen = os.replace, []

    def full_disk(source, target):
        seen.append(Path(target).name)
        if seen.count('iter_2.pth') == 2:
            raise OSError(28, 'No space left on device')
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', full_disk)
        with pytest.raises(OSError, match='No space left'):
            train(cfg, tmp_path / 'full')
    # every metric has its best one, the newest does not know of them
    assert len(names(tmp_path / 'full')) == 2 + 2 * (len(best) if isinstance(best, list) else 1)
    train(cfg, tmp_path / 'full', resume=True, load_from=str(tmp_path / 'full/iter_2.pth'))
    assert names(tmp_path / 'full') == names(tmp_path / 'whole')


def test_a_note_that_does_not_fit_is_no_torn_note(data, tmp_path, monkeypatch):
    cfg = stock_config(data, iterations=2)
    saved = CheckpointHook._save_checkpoint_with_step

    def full_disk(self, runner, step, meta):
        saved(self, runner, step, meta)
        Path(runner.work_dir, 'last_checkpoint').write_text('/so')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(CheckpointHook, '_save_checkpoint_with_step', full_disk)
    with pytest.raises(OSError, match='No space left'):
        train(cfg, tmp_path)
    assert not (tmp_path / 'last_checkpoint').exists()
    assert newest_checkpoint(tmp_path) == tmp_path / 'iter_2.pth'


def test_a_kept_role_file_survives_that_a_later_save_fails(data, tmp_path, monkeypatch):
    cfg = role_config(data, iterations=3)
    train(cfg, tmp_path, train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_begin=9))
    last = tmp_path / 'kept.pth'
    (tmp_path / 'iter_2.pth').rename(last)
    monkeypatch.setattr(os, 'fsync', lambda descriptor: (_ for _ in ()).throw(OSError(28, 'full')))
    with pytest.raises(OSError, match='full'):
        train(cfg, tmp_path, resume=True, load_from=str(last))
    assert 'iter_2_student.pth' in names(tmp_path)


def test_a_note_that_is_a_link_is_not_written_into_the_checkpoint(data, tmp_path):
    (tmp_path / 'mine.pth').write_text('mine')
    (tmp_path / 'last_checkpoint').symlink_to(tmp_path / 'mine.pth')
    train(stock_config(data, iterations=2), tmp_path)
    assert (tmp_path / 'mine.pth').read_text() == 'mine'
    assert newest_checkpoint(tmp_path) == tmp_path / 'iter_2.pth'


def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    file = tmp_path / 'a'
    write_atomically(b'old', file)
    write_atomically(b'new', file)
    assert file.read_bytes() == b'new'

    def fail(descriptor):
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='Input/output'):
        write_atomically(b'newer', file)
    assert file.read_bytes() == b'new'
    assert list(tmp_path.iterdir()) == [file]
