"""How the launcher treats the processes it starts; what it makes of real trainings is in tests/tools."""

import json
import time
from threading import Thread

import pytest
from rich.console import Console

from mmadm.utils.bench import Job, Launcher, RunFailedError, run_jobs

TRAIN = """
import json, os, sys, time
from pathlib import Path
work_dir = Path(sys.argv[sys.argv.index('--work-dir') + 1])
(work_dir / 'started').touch()
if sys.argv[-1] == 'mode=sleep':
    time.sleep(60)
if sys.argv[-1] == 'mode=fail':
    sys.exit('the data are gone')
block = b'x' * (600 << 20) if sys.argv[-1] == 'mode=large' else b''
log = work_dir / '1' / 'vis_data'
log.mkdir(parents=True)
scores = {} if sys.argv[-1] == 'mode=blind' else dict(mIoU=7.0)
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
        'tiny', mode, seed, 'configs/a.py', (f'mode={mode}',), root / mode / f'seed{seed}', 1, ('student',),
        True, False, {'config_sha': 'x', 'parameters': {'student': 1}},
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
