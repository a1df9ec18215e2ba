"""What the tools say when the disk is full, a worker is killed, or a file in the work dir is not what it should be."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, HOOKS
from small_trainings import role_config, write_images

from mmadm.cli import export, train
from mmadm.utils.checkpoint import newest_checkpoint, read_checkpoint, write_checkpoint
from mmadm.utils.cli import one_line_errors
from mmadm.utils.lock import sole_training


@HOOKS.register_module()
class KillAWorker(Hook):
    """Kills a worker of the data loader, as the kernel does when there is no memory left."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Kill it."""
        for process in multiprocessing.active_children()[-1:]:
            os.kill(process.pid, signal.SIGKILL)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A config and the work dir of a finished training of two iterations."""
    folder = tmp_path_factory.mktemp('bad_days')
    cfg = role_config(write_images(folder / 'data'), iterations=2, val_interval=9)
    cfg.dump(folder / 'roles.py')
    train.main([str(folder / 'roles.py'), '--work-dir', str(folder / 'done')])
    cfg.custom_hooks = [dict(type='mmengine.KillAWorker')]
    cfg.train_dataloader.num_workers = 1
    cfg.dump(folder / 'killed.py')
    return folder


def refused(capsys, work) -> str:
    """The one line with which a tool ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith('error: ')
    return last


def training(folder: Path, work_dir: Path, *words: str | Path):
    """A call of the tool."""
    return partial(train.main, [str(folder / 'roles.py'), '--work-dir', str(work_dir), *map(str, words)])


def fill_disk(monkeypatch, name: str) -> None:
    """Let no file of a name be written."""
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(os.readlink(f'/proc/self/fd/{descriptor}')).name.startswith(name):
            raise OSError(28, os.strerror(28))
        flush(descriptor)

    monkeypatch.setattr(os, 'fsync', fsync)


@pytest.mark.parametrize('file', ['iter_4.pth', 'iter_4_student.pth'])
def test_a_full_disk_is_one_sentence_and_the_training_goes_on_when_there_is_room(folder, tmp_path, capsys, file):
    longer = ['--cfg-options', 'train_cfg.max_iters=4']
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch, file)
        error = refused(capsys, training(folder, tmp_path, *longer))
    assert f'{tmp_path / file}: No space left on device' in error
    assert {path.name for path in tmp_path.glob('*.pth*')} == {'iter_2.pth', 'iter_2_student.pth'}
    training(folder, tmp_path, '--resume', *longer)()
    assert newest_checkpoint(tmp_path).name == 'iter_4.pth'


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path, capsys):
    def write() -> None:
        with one_line_errors():
            (tmp_path / 'last_checkpoint').write_text('')

    (tmp_path / 'last_checkpoint').mkdir()
    assert f'{tmp_path}/last_checkpoint: Is a directory' in refused(capsys, write)


def test_other_errors_of_the_system_keep_their_traceback():
    for error in (
        FileNotFoundError(2, 'No such file'),
        RuntimeError('Caught ValueError in DataLoader worker process 0.'),
        ConnectionResetError(104, 'Connection reset by peer'),
    ):
        with pytest.raises(type(error)), one_line_errors():
            raise error


def test_an_export_to_a_full_disk_leaves_the_good_file(folder, tmp_path, capsys, monkeypatch):
    for option in ('--out', '--config-out'):
        file = tmp_path / f'good{option}.py'
        file.write_text('good')
        fill_disk(monkeypatch, file.name)
        words = [
            str(folder / 'done/iter_2.pth'),
            '--role',
            'student',
            '--out',
            str(tmp_path / 'a.pth'),
            option,
            str(file),
            '--force',
        ]
        assert 'No space left on device' in refused(capsys, partial(export.main, words))
        assert file.read_text() == 'good'


def test_a_killed_worker_is_one_sentence(folder, tmp_path, capsys):
    error = refused(capsys, partial(train.main, [str(folder / 'killed.py'), '--work-dir', str(tmp_path)]))
    assert 'DataLoader worker (pid' in error
    assert 'too little memory; lower train_dataloader.num_workers' in error


class Unfetched:
    """What a worker sent in memory that is gone with it: fetching it finds nobody."""

    def __reduce__(self):
        return _reset, ()


def _reset():
    raise ConnectionResetError(104, 'Connection reset by peer')


@FUNCTIONS.register_module()
def send_unfetched(samples):
    """Collate samples to what cannot be fetched."""
    return Unfetched()


def test_a_worker_killed_in_validation_is_one_sentence_wherever_its_end_is_noticed(folder, tmp_path, capsys):
    cfg = Config.fromfile(folder / 'roles.py')
    cfg.val_dataloader.update(num_workers=1, collate_fn=dict(type='send_unfetched'))
    cfg.train_cfg.val_interval = 1
    cfg.dump(tmp_path / 'val.py')
    error = refused(capsys, partial(train.main, [str(tmp_path / 'val.py'), '--work-dir', str(tmp_path / 'work')]))
    assert 'a DataLoader worker is gone (ConnectionResetError): mostly' in error
    assert 'lower val_dataloader.num_workers or val_dataloader.batch_size' in error


def test_a_second_training_in_a_work_dir_is_refused_before_it_writes(folder, tmp_path, capsys):
    code = f'from mmadm.utils.lock import *\nwith sole_training({str(tmp_path)!r}): print(1, flush=True); input()'
    words = [sys.executable, '-c', code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert f'in use by another training (process {other.pid} on' in refused(capsys, training(folder, tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ['.training.lock']
        other.kill()
    with sole_training(tmp_path):
        pass


def test_a_loss_that_is_not_finite_names_the_images(folder, tmp_path, capsys):
    error = refused(capsys, training(folder, tmp_path, '--cfg-options', 'optim_wrapper.student.optimizer.lr=1e30'))
    assert error.count(f'{folder}/data/img/train/') == 2


class TestConfigsInCheckpoints:
    def with_meta(self, folder: Path, tmp_path: Path, **meta) -> Path:
        """A whole checkpoint that says something else of its training."""
        checkpoint = read_checkpoint(folder / 'done/iter_2.pth')
        write_checkpoint({**checkpoint, 'meta': {**checkpoint['meta'], **meta}}, tmp_path / 'theirs.pth')
        return tmp_path / 'theirs.pth'

    def test_a_resume_does_not_run_one(self, folder, tmp_path, capsys):
        theirs = self.with_meta(folder, tmp_path, config=f'open({str(tmp_path / "trap")!r}, "w")')
        assert 'theirs.pth holds meta.config' in refused(capsys, training(folder, tmp_path, '--resume', theirs))
        assert not (tmp_path / 'trap').exists()

    def test_a_resume_needs_an_iteration(self, folder, tmp_path, capsys):
        theirs = self.with_meta(folder, tmp_path, iter='two')
        assert "meta.iter is 'two', not a number" in refused(capsys, training(folder, tmp_path, '--resume', theirs))

    @pytest.mark.parametrize('option', ['--config-out', '--onnx'])
    def test_an_export_does_not_run_one(self, folder, tmp_path, capsys, option):
        theirs = self.with_meta(folder, tmp_path, cfg=f'model = open({str(tmp_path / "trap")!r}, "w")')
        words = [theirs, '--role', 'student', '--out', tmp_path / 'a.pth', option, tmp_path / 'a.py']
        error = refused(capsys, partial(export.main, [str(word) for word in words]))
        assert 'more than a list of settings, and is not run' in error
        assert not (tmp_path / 'trap').exists()

    def test_an_export_builds_no_command(self, folder, tmp_path, capsys):
        pytest.importorskip('onnx')
        cfg = Config.fromfile(folder / 'roles.py')
        cfg.model.roles.student.backbone = dict(type='subprocess.Popen', args=['touch', str(tmp_path / 'trap')])
        theirs = self.with_meta(folder, tmp_path, cfg=cfg.pretty_text)
        words = [str(theirs), '--role', 'student', '--onnx', str(tmp_path / 'a.onnx'), '--size', '32', '32']
        assert "type='subprocess.Popen'" in refused(capsys, partial(export.main, words))
        assert not (tmp_path / 'trap').exists()
