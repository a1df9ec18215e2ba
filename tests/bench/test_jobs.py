"""How the launcher treats the processes it starts; what it makes of real trainings is in tests/tools."""

import json
import sys
import time
from threading import Thread

import pytest
from rich.console import Console

from mmadm.bench.jobs import Job, Launcher, RunFailedError, run_jobs
from mmadm.utils.errors import ConfigError

TRAIN = """
import json, os, sys, time
from pathlib import Path
MODE = next(word for word in sys.argv if word.startswith('mode='))
work_dir = Path(sys.argv[sys.argv.index('--work-dir') + 1])
(work_dir / 'started').touch()
if MODE == 'mode=sleep':
    time.sleep(60)
if MODE == 'mode=fail':
    sys.exit('the data are gone')
block = b'x' * (600 << 20) if MODE == 'mode=large' else b''
(work_dir / f"rank{os.environ.get('RANK')}").write_text(os.environ.get('WORLD_SIZE', ''))
log = work_dir / '1' / 'vis_data'
log.mkdir(parents=True, exist_ok=True)
scores = {} if MODE == 'mode=blind' else dict(mIoU=7.0)
(log / 'scalars.json').write_text(
    json.dumps(dict(loss=1.0, time=0.5, step=1)) + chr(10) + json.dumps(dict(scores, step=1)) + chr(10))
(work_dir / 'arguments').write_text(json.dumps([sys.argv[1:], os.environ.get('OMP_NUM_THREADS')]))
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'train.py').write_text(TRAIN)
    return tmp_path


def job(root, mode, seed=0):
    return Job(
        'tiny', mode, seed, 'configs/a.py', (f'mode={mode}',), root / mode / f'seed{seed}', 1,
        'iterations', ('student',), True, False, {'config_sha': 'x', 'parameters': {'student': 1}},
    )  # fmt: skip


def test_a_run_is_called_as_openmmlab_users_call_it(root):
    record = Launcher(root, threads=3).run(job(root, 'good', seed=5))
    arguments, threads = json.loads((root / 'good/seed5/arguments').read_text())
    assert arguments == [
        str(root / 'configs/a.py'), '--work-dir', str(root / 'good/seed5'),
        '--resume', '--cfg-options', 'randomness.seed=5', 'mode=good',
    ]  # fmt: skip
    assert threads == '3'
    assert (record['val'], record['time'], record['work_dir']) == ({'student': 7.0}, 0.5, 'good/seed5')


def test_torchrun_starts_one_process_for_each_gpu(root):
    Launcher(root, launcher='pytorch', gpus=2).run(job(root, 'good'))
    folder = root / 'good/seed0'
    assert [(folder / f'rank{rank}').read_text() for rank in (0, 1)] == ['2', '2']
    arguments = json.loads((folder / 'arguments').read_text())[0]
    assert arguments[-4:] == ['randomness.seed=0', 'mode=good', '--launcher', 'pytorch']


def test_slurm_starts_what_srun_is_told(root, monkeypatch):
    stub = root / 'bin' / 'srun'
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" > {root}/words\nwhile [ "${{1#-}}" != "$1" ]; do shift; done\nexec "$@"\n')
    stub.chmod(0o755)
    monkeypatch.setenv('PATH', f'{stub.parent}:/usr/bin:/bin')
    monkeypatch.setenv('SRUN_ARGS', "--partition=gpu --comment='two words'")
    Launcher(root, launcher='slurm', gpus=4).run(job(root, 'good'))
    words = (root / 'words').read_text()
    assert words.startswith(
        f'--ntasks=4 --gpus=4 --kill-on-bad-exit=1 --partition=gpu --comment=two words {sys.executable} -u '
    )
    assert words.endswith('mode=good --launcher slurm\n')


@pytest.mark.parametrize(('launcher', 'gpus'), [('none', 2), ('pytorch', 0)])
def test_gpus_need_a_launcher(root, launcher, gpus):
    with pytest.raises(ConfigError, match=rf'--gpus={gpus} with --launcher={launcher}: .*--launcher pytorch or slurm'):
        Launcher(root, launcher=launcher, gpus=gpus)


def test_a_run_without_a_score_fails_and_says_what_would_give_one(root):
    with pytest.raises(RunFailedError, match=r'mIoU, coco/bbox_mAP.*use IoUMetric or CocoMetric'):
        Launcher(root).run(job(root, 'blind'))


def test_memory_is_that_of_the_process(root):
    assert 600 < Launcher(root).run(job(root, 'large'))['memory'] < 6000  # MiB


def test_all_runs_are_tried_and_failures_end_with_the_last_words(root, capsys):
    jobs = [job(root, 'fail'), job(root, 'good')]
    (failure,) = run_jobs(jobs, Launcher(root), root, 1, Console())
    assert failure.startswith('fail seed 0: ')
    assert failure.endswith('the data are gone')
    (line,) = (root / 'results.jsonl').read_text().splitlines()
    assert json.loads(line)['method'] == 'good'
    assert 'failed fail seed 0' in capsys.readouterr().out


def test_stopping_ends_what_runs_and_starts_no_more(root):
    launcher, errors = Launcher(root), []

    def run():
        try:
            launcher.run(job(root, 'sleep'))
        except RunFailedError as error:
            errors.append(str(error))

    thread = Thread(target=run)
    thread.start()
    while not (root / 'sleep/seed0/started').exists():
        time.sleep(0.02)
    launcher.stop()
    thread.join(timeout=50)
    assert not thread.is_alive()
    assert 'ended with -15' in errors[0]
    with pytest.raises(RunFailedError, match='stopping'):
        launcher.run(job(root, 'good'))
    assert not (root / 'good/seed0/started').exists()
