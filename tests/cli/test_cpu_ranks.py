"""Several processes without a GPU: they train where the config is set for it, else one sentence says what to set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from small_segmentors import segmentor
from small_trainings import losses_of, stock_config, weights_of, write_images

from mmadm.cli import distill
from mmadm.utils import ranks
from mmadm.utils.errors import ConfigError

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason='there every process gets a GPU')


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Stock training configs of eight images, by epochs, and what `mmadm distill` did with them on two ranks."""
    folder = tmp_path_factory.mktemp('cpu_ranks')
    cfg = stock_config(write_images(folder / 'data'), infinite=False)
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    cfg.log_processor.by_epoch = True
    cfg.default_hooks.logger.log_metric_by_epoch = True
    cfg.dump(folder / 'student.py')
    cfg.model = segmentor(8)
    cfg.dump(folder / 'teacher.py')
    words = [folder / 'student.py', folder / 'teacher.py', '--method', 'dml', '--out', folder / 'both.py', '--train']
    ranks_of_cpu = ['--launcher', 'pytorch', '--gpus', '2', '--set', 'env_cfg.dist_cfg.backend=gloo']
    with pytest.raises(SystemExit) as ended:
        distill.main([str(word) for word in (*words, '--work-dir', folder / 'work', *ranks_of_cpu)])
    assert ended.value.code == 0
    return folder


def test_two_ranks_share_the_images_and_write_the_students_file(folder):
    (log,) = folder.glob('work/*/*.log')
    told = log.read_text()
    assert re.search(r'Epoch\(train\)\s+\[1\]\[2/2\]', told)  # eight images, two for each rank in a step
    assert told.count('Epoch(train)') == 2  # of the first rank
    assert 'student/mIoU' in told and set(losses_of(folder / 'work')) == {1, 2}
    student = weights_of(folder / 'work/epoch_1_student.pth')
    assert {name.removeprefix('roles.student.') for name in weights_of(folder / 'work/epoch_1.pth')} > set(student)


@pytest.mark.parametrize(
    ('launcher', 'backend'), [('pytorch', None), ('pytorch', 'nccl'), ('slurm', 'gloo'), ('mpi', 'gloo')]
)
def test_what_needs_a_gpu_is_told(launcher, backend):
    cfg = stock_config(Path('data'))
    cfg.launcher = launcher
    cfg.env_cfg.dist_cfg = dict(backend=backend) if backend else {}
    with pytest.raises(ConfigError, match=rf"--launcher={launcher} .*backend='{backend or 'nccl'}'.* backend='gloo'"):
        ranks.join_cpu_ranks(cfg)


def test_a_norm_that_torch_has_on_gpus_alone_is_named(monkeypatch):
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.SyncBatchNorm(1))
    ranks.check_norms_of_ranks(model)  # a Runner with one process reverts it
    monkeypatch.setattr(ranks, 'get_world_size', lambda: 2)
    with pytest.raises(ConfigError, match=r"^1: torch has SyncBN only on GPUs; on the CPU set norm_cfg\.type='BN'"):
        ranks.check_norms_of_ranks(model)
