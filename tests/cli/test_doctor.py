"""``mmadm doctor``: what is installed, whether it fits, and what a config would do."""

import json
import subprocess
import sys

import pytest
import torch
from rich.console import Console
from small_segmentors import build, segmentor
from small_trainings import stock_config, write_images

from mmadm.bench.gpu_check import command
from mmadm.bench.gpu_check.plan import PARTS
from mmadm.cli import doctor
from mmadm.cli.main import main


def told(capsys) -> str:
    return ' '.join(capsys.readouterr().out.split())


def test_an_installation_that_works(capsys):
    assert doctor.main([]) == 0
    out = told(capsys)
    assert 'compiled operators of mmcv │ work │ yes' in out
    assert all(name in out for name in ('mmengine', 'mmseg', 'mmdet', 'torch')) and 'NO' not in out


def test_a_toolbox_that_is_left_out_is_no_fault_and_free_memory_counts_what_can_be_freed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmpretrain', None)
    monkeypatch.setattr(doctor, 'free_on_host', lambda: 3 * 2**30)
    rows = {name: (found, fits) for name, found, fits in doctor.installation()}
    assert rows['mmpretrain'] == ('not installed, may be left out', True)
    assert rows['processors, free memory'][0].endswith(', 3.0 GiB')


def test_a_version_that_does_not_fit_is_said_and_is_the_exit_code(capsys, monkeypatch):
    monkeypatch.setattr(doctor, 'console', Console(width=200))
    monkeypatch.setattr(doctor, 'SUPPORTED', {'mmengine': ('99.0', '100.0'), 'mmseg': ('1.0', '2.0')})
    assert doctor.main([]) == 1
    assert 'mmadm needs 99.0 up to below 100.0' in told(capsys)


def test_what_a_config_would_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(doctor, 'console', Console(width=200))
    cfg = stock_config(write_images(tmp_path / 'data'))
    cfg.model = dict(
        type='mmadm.Distillation',
        roles=dict(student=segmentor(4), teacher=segmentor(8)),
        frozen=['teacher'],
        distillers=[
            dict(
                type='mmadm.Transfer',
                source='teacher',
                learner='student',
                at='backbone.layer4',
                loss=dict(type='HintMSE'),
            )
        ],
    )
    cfg.dump(tmp_path / 'a.py')
    assert doctor.main([str(tmp_path / 'a.py')]) == 0
    out = told(capsys)
    assert 'student (deployed)' in out and 'a feature map' in out and 'backbone.layer4' in out
    assert 'connectors: 1 with' in out
    assert '`mmadm train` adds: val_cfg, default_hooks.guard, default_hooks.teacher_guard' in out


def test_deprecations_of_the_toolboxes_are_not_shown(tmp_path):
    """In a process of its own, where nothing is imported yet, and not on a terminal."""
    done = subprocess.run([sys.executable, '-m', 'mmadm', 'doctor'], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '')


def test_a_stock_config_is_one_sentence(tmp_path, capsys):
    stock_config(write_images(tmp_path / 'data')).dump(tmp_path / 'a.py')
    with pytest.raises(SystemExit):
        doctor.main([str(tmp_path / 'a.py')])
    assert 'model.type is not mmadm.Distillation' in capsys.readouterr().err


def test_the_checks_of_a_gpu_can_be_tried_on_a_cpu(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, 'PARTS', tuple(part for part in PARTS if part.name in ('machine', 'operators')))
    assert doctor.main(['--gpu', '--device', 'cpu']) == 0
    (operators,) = (part for part in json.loads((tmp_path / 'work_dirs/gpu_check/results.json').read_text())
                    if part['name'] == 'operators')  # fmt: skip
    assert operators['ended'] == 'ok' and operators['rows']
    assert 'results: work_dirs/gpu_check/results.json' in told(capsys)


def test_without_a_gpu_one_sentence_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit):
        doctor.main(['--gpu'])
    assert 'no GPU here; --device cpu tries the checks' in capsys.readouterr().err


def test_the_command_knows_its_verbs(capsys):
    main(['--version'])
    assert capsys.readouterr().out.startswith('mmadm 0.2')
    main([])
    assert 'distill' in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(['tran'])
    assert ended.value.code == 2
    assert "did you mean 'train'" in capsys.readouterr().err


def test_how_each_weight_was_drawn_does_not_come_before_what_a_config_would_do(tmp_path, logged):
    torch.save(dict(state_dict=build(segmentor(4, classes=7)).state_dict()), tmp_path / 'seven.pth')
    cfg = stock_config(write_images(tmp_path / 'data'))
    student = dict(cfg=segmentor(4), checkpoint=str(tmp_path / 'seven.pth'), train=None)  # and no distillers
    cfg.model = dict(type='mmadm.Distillation', roles=dict(student=student))
    cfg.dump(tmp_path / 'misfit.py')
    logged.clear()  # of the network in the file
    assert doctor.main([str(tmp_path / 'misfit.py')]) == 0
    (record,) = logged.records
    assert "fits role 'student' in part" in record.getMessage()
