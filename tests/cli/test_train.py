"""tools/train.py: what it refuses, how it resumes, mixed precision."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from small_trainings import losses_of, role_config, stock_config, write_images

from mmadm.cli import train
from mmadm.utils.checkpoint import read_checkpoint, write_checkpoint


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Configs and the work dir of a finished training of two iterations."""
    folder = tmp_path_factory.mktemp('train')
    data = write_images(folder / 'data')
    cfg = role_config(data, iterations=2, val_interval=9)
    cfg.dump(folder / 'roles.py')
    stock_config(data, iterations=2).dump(folder / 'stock.py')
    cfg.model.roles.student.backbone.base_channels = 8
    cfg.model.roles.student.backbone.stem_channels = 8
    cfg.model.roles.student.decode_head.in_channels = 64
    cfg.dump(folder / 'wider.py')
    train.main([str(folder / 'roles.py'), '--work-dir', str(folder / 'done')])
    return folder


def refused(capsys, *arguments: str | Path) -> str:
    """Run the tool, which must end with code 1 and one line; returns that line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        train.main([str(argument) for argument in arguments])
    assert ended.value.code == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith('error: ')
    return last


def checkpoints(work_dir: Path) -> dict[str, int]:
    """When each checkpoint of a work dir was written."""
    return {path.name: path.stat().st_mtime_ns for path in work_dir.glob('*.pth')}


@pytest.fixture
def work_dir(folder, tmp_path) -> Path:
    """A copy of the finished training."""
    shutil.copytree(folder / 'done', tmp_path / 'work')
    (tmp_path / 'work' / 'last_checkpoint').write_text(str(tmp_path / 'work' / 'iter_2.pth'))
    return tmp_path / 'work'


def test_a_finished_training_left_what_is_expected(folder):
    assert set(checkpoints(folder / 'done')) == {'iter_2.pth', 'iter_2_student.pth'}
    assert set(losses_of(folder / 'done')) == {1, 2}


def test_a_missing_config(capsys, tmp_path):
    assert 'no/such.py' in refused(capsys, 'no/such.py', '--work-dir', tmp_path)


def test_an_unwritable_work_dir_is_said_before_anything_is_built(folder, capsys, tmp_path):
    (tmp_path / 'file').touch()
    options = ['--cfg-options', 'model.type=NoSuchModel']
    error = refused(capsys, folder / 'roles.py', '--work-dir', tmp_path / 'file' / 'work', *options)
    assert 'work_dir=' in error
    assert 'cannot be written to' in error


def test_a_missing_file_of_a_role_is_said_before_the_log_of_mmengine(folder, capsys, tmp_path):
    options = ['--cfg-options', 'model.roles.teacher.checkpoint=no.pth', 'model.type=NoSuchModel']
    error = refused(capsys, folder / 'roles.py', '--work-dir', tmp_path, *options)
    assert error.startswith("error: model.roles.teacher.checkpoint='no.pth': no such file.")
    assert not list(tmp_path.rglob('*.log'))


def test_a_wrong_config_is_one_line(folder, capsys, tmp_path):
    options = ['--cfg-options', 'model.deploy=studnet']
    error = refused(capsys, folder / 'roles.py', '--work-dir', tmp_path, *options)
    assert "model.deploy='studnet' is not a role; did you mean 'student'?" in error


@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        ('missing', r'no_such\.pth: no such checkpoint'),
        ('truncated', 'is truncated or not a checkpoint'),
        ('role file', "holds no 'message_hub' and no 'optimizer'"),
        ('foreign', 'is of another architecture: of the .* tensors of this model 0 are missing and .* another shape'),
    ],
)
def test_a_checkpoint_that_cannot_be_resumed(folder, capsys, work_dir, harm, message):
    config, checkpoint = folder / 'roles.py', work_dir / 'iter_2.pth'
    if harm == 'missing':
        checkpoint = work_dir / 'no_such.pth'
    elif harm == 'truncated':
        checkpoint.write_bytes(checkpoint.read_bytes()[:-500])
    elif harm == 'role file':
        checkpoint = work_dir / 'iter_2_student.pth'
    else:
        config = folder / 'wider.py'
    before = checkpoints(work_dir)
    error = refused(capsys, config, '--work-dir', work_dir, '--resume', checkpoint)
    assert re.search(message, error)
    assert checkpoints(work_dir) == before


def test_a_longer_schedule_goes_on_from_the_newest_checkpoint(folder, work_dir):
    options = ['--cfg-options', 'train_cfg.max_iters=3']
    train.main([str(folder / 'roles.py'), '--work-dir', str(work_dir), '--resume', *options])
    assert set(losses_of(work_dir)) == {3}
    assert 'iter_3.pth' in checkpoints(work_dir)


def test_nothing_to_resume_from_starts_with_a_notice(folder, tmp_path, capsys):
    train.main([str(folder / 'roles.py'), '--work-dir', str(tmp_path), '--resume'])
    assert f'No checkpoint in {tmp_path}: training starts from the beginning.' in capsys.readouterr().out
    assert set(losses_of(tmp_path)) == {1, 2}


def test_without_a_seed_the_one_of_the_checkpoint_counts(folder):
    cfg = Config.fromfile(folder / 'roles.py')
    cfg.randomness = dict(seed=None, deterministic=True)
    checkpoint = read_checkpoint(folder / 'done/iter_2.pth')
    checkpoint['meta']['seed'] = 12345
    write_checkpoint(checkpoint, folder / 'seeded.pth')
    train.choose_checkpoint(cfg, str(folder / 'seeded.pth'))
    assert cfg.randomness == dict(seed=12345, deterministic=True)
    assert (cfg.resume, cfg.load_from) == (True, str(folder / 'seeded.pth'))


def test_resume_in_the_config_counts_too(folder):
    cfg = Config.fromfile(folder / 'roles.py')
    cfg.merge_from_dict(dict(resume=True, work_dir=str(folder / 'done')))
    assert train.choose_checkpoint(cfg, None) == folder / 'done/iter_2.pth'


def test_mixed_precision_with_an_optimiser_per_role(folder, tmp_path):
    train.main([str(folder / 'roles.py'), '--work-dir', str(tmp_path), '--amp'])
    saved = Config.fromstring(read_checkpoint(tmp_path / 'iter_2.pth')['meta']['cfg'], '.py')
    assert (saved.optim_wrapper.type, saved.optim_wrapper.dtype) == ('AmpOptimWrapper', 'bfloat16')
    plain, mixed = losses_of(folder / 'done')[1]['loss'], losses_of(tmp_path)[1]['loss']
    # the same images and weights, in fewer digits
    assert plain != mixed
    assert plain == pytest.approx(mixed, rel=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU can do it')
def test_mixed_precision_with_one_stock_optimiser_needs_a_gpu(folder, capsys, tmp_path):
    assert 'AmpOptimWrapper needs a GPU' in refused(capsys, folder / 'stock.py', '--work-dir', tmp_path, '--amp')


def test_mixed_precision_needs_a_wrapper_that_it_knows(folder, capsys, tmp_path):
    options = ['--cfg-options', 'optim_wrapper.type=ApexOptimWrapper']
    assert "found 'ApexOptimWrapper'" in refused(capsys, folder / 'roles.py', '--work-dir', tmp_path, '--amp', *options)


def test_several_processes_need_torchrun(folder, capsys, tmp_path):
    arguments = ['--work-dir', tmp_path, '--launcher', 'pytorch']
    assert '--launcher=pytorch: for what torchrun starts; use tools' in refused(capsys, folder / 'roles.py', *arguments)


def test_a_loss_that_is_not_finite_is_one_line_and_leaves_the_last_good_state(folder, capsys, tmp_path):
    options = ['--cfg-options', 'optim_wrapper.student.optimizer.lr=1e30']
    error = refused(capsys, folder / 'roles.py', '--work-dir', tmp_path, *options)
    assert "non-finite loss at iteration 2 (role 'student': " in error
    assert set(checkpoints(tmp_path)) == {'last_good_iter_1.pth', 'last_good_iter_1_student.pth'}


def test_learning_rates_of_all_roles_scale_by_the_batch(folder, capsys, tmp_path):
    batch = Config.fromfile(folder / 'roles.py').train_dataloader.batch_size
    options = ['--cfg-options', f'auto_scale_lr.base_batch_size={batch * 4}', 'auto_scale_lr.enable=False']
    train.main([str(folder / 'roles.py'), '--work-dir', str(tmp_path), '--auto-scale-lr', *options])
    plain, scaled = losses_of(folder / 'done')[1], losses_of(tmp_path)[1]
    rates = [key for key in plain if key.endswith('.lr')]
    assert rates == ['student.lr', 'teacher.lr']
    assert [scaled[key] for key in rates] == pytest.approx([plain[key] / 4 for key in rates])
    assert 'needs auto_scale_lr.base_batch_size' in refused(capsys, folder / 'roles.py', '--auto-scale-lr')


def test_weights_count_whatever_stands_beside_them(folder, tmp_path):
    """Stock training takes the weights of a file whose meta is a text; so does this."""
    weights = read_checkpoint(folder / 'done/iter_2_student.pth', ())['state_dict']
    torch.save(dict(state_dict=weights, meta='by hand'), tmp_path / 'noted.pth')
    options = ['--cfg-options', f'load_from={tmp_path / "noted.pth"}']
    train.main([str(folder / 'roles.py'), '--work-dir', str(tmp_path / 'work'), *options])
    assert set(losses_of(tmp_path / 'work')) == {1, 2}
