"""What makes the comparison of `make demo FULL=1` fair, and how it treats old runs. It takes too long for a test."""

import os
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from rich.console import Console
from small_trainings import ROOT

from mmadm.bench.suites import SUITES
from mmadm.demo import suite

METHODS = ('student', 'dml', 'adm', 'student_det', 'adm_det')
PAIRS = [('student', 'dml'), ('student', 'adm'), ('student_det', 'adm_det')]


@pytest.fixture(scope='module')
def configs():
    return {method: Config.fromfile(ROOT / f'configs/demo/{method}.py') for method in METHODS}


@pytest.mark.parametrize('key', ['train_dataloader', 'val_dataloader', 'param_scheduler', 'train_cfg', 'randomness'])
@pytest.mark.parametrize(('plain', 'method'), PAIRS)
def test_the_methods_share_data_schedule_and_seed(configs, plain, method, key):
    assert configs[plain][key] == configs[method][key]


@pytest.mark.parametrize(('plain', 'method'), PAIRS)
def test_the_methods_share_the_student_and_its_optimiser(configs, plain, method):
    assert configs[method].model.roles.student == configs[plain].model
    assert configs[method].optim_wrapper.student.optimizer == configs[plain].optim_wrapper.optimizer


def test_mutual_learning_and_adm_share_the_teacher(configs):
    assert configs['dml'].model.roles == configs['adm'].model.roles


def test_the_whole_suite_is_run():
    assert set(suite.METHODS) == set(SUITES['demo']) == set(METHODS)


def test_runs_of_a_changed_config_are_removed_and_no_others(tmp_path):
    jobs = []
    for method, written in {'adm': 'old', 'dml': 'new', 'student': None}.items():
        work_dir = tmp_path / method / 'seed0'
        work_dir.mkdir(parents=True)
        if written:
            (work_dir / 'config.sha').write_text(written)
        jobs.append(SimpleNamespace(work_dir=work_dir, facts={'config_sha': 'new'}))
    suite.remove_outdated(jobs)
    assert [job.work_dir.exists() for job in jobs] == [False, True, True]


def test_the_table_says_what_the_figures_are_not(capsys):
    record = dict(
        method='adm', seed=0, val={'student': 41.5, 'teacher': 44.25}, test={}, time=0.1234, memory=600.0,
        parameters={'student': 195835, 'teacher': 777187},
    )  # fmt: skip
    detector = dict(
        method='adm_det', seed=0, metric='AP', val={'student': 12.5}, test={}, time=0.25, memory=600.0,
        further={'AP50': {'val': {'student': 30.5}, 'test': {}}}, parameters={'student': 90210},
    )  # fmt: skip
    suite.show([record, detector], Console(width=120))
    shown = capsys.readouterr().out
    for text in ('adm', '41.50', '44.25', '0.123', '195,835', 'not Cityscapes results'):
        assert text in shown
    for text in ('segmentation', 'detection', 'adm_det', 'AP50', '12.50', '30.50', '90,210'):
        assert text in shown


def test_the_report_is_made_when_all_runs_are_finished(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('MMADM_DATA', 'set by the demo')
    told, failures = [], ['adm seed 0: it failed']
    monkeypatch.setattr(suite.make_streets_command, 'main', lambda words: told.append(words))
    monkeypatch.setattr(suite, 'plan', lambda *words: told.append(words) or [])
    monkeypatch.setattr(suite, 'run_jobs', lambda *words: list(failures))
    monkeypatch.setattr(suite, 'report', lambda folder: ([], folder / 'report.html'))
    assert suite.run_suite(tmp_path, ['a=1'], Console(width=200)) == failures
    assert 'report' not in capsys.readouterr().out
    assert told == [[str(tmp_path / 'data/streets')], ('demo', suite.METHODS, [0], 'full', tmp_path, ['a=1'])]
    assert os.environ['MMADM_DATA'] == str(tmp_path / 'data')
    failures.clear()
    assert suite.run_suite(tmp_path, [], Console(width=200)) == []
    assert f'report: {tmp_path / "report.html"}' in capsys.readouterr().out
