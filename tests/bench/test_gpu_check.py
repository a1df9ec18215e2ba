"""Every part of the GPU check on the CPU, and what becomes of one that fails, crashes or hangs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mmadm.bench import command
from mmadm.bench.gpu_check import training
from mmadm.bench.gpu_check.draws import CpuDraws
from mmadm.bench.gpu_check.large import PSPNET, RETINANET, batches, learner, load
from mmadm.bench.gpu_check.methods import method
from mmadm.bench.gpu_check.networks import build, segmentation_batch
from mmadm.bench.gpu_check.plan import PARTS, SUITE, Part
from mmadm.bench.gpu_check.report import Report, Setting
from mmadm.bench.gpu_check.run import Options, run_parts
from mmadm.bench.gpu_check.show import table

CPU = torch.device('cpu')
# the same functions with other networks: NCCL's rank is a gloo rank here, and there are two of those
ALIKE = {'more_families', 'one_rank'}


@pytest.fixture(autouse=True)
def _precision():
    """What parts set for a process of their own."""
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches], torch.backends.cudnn.benchmark
    yield
    for switch, value in zip(switches, before[0], strict=True):
        switch.allow_tf32 = value
    torch.backends.cudnn.benchmark = before[1]


@pytest.mark.parametrize('part', [part for part in PARTS if part.name not in ALIKE], ids=lambda part: part.name)
def test_each_part_runs_on_the_cpu(part, tmp_path):
    report = Report(tmp_path / 'rows.json')
    part.function()(Setting(CPU, True, 300.0, tmp_path), report)
    assert report.rows
    assert [row for row in report.rows if row.passed is False] == []
    assert len(json.loads((tmp_path / 'rows.json').read_text())) == len(report.rows)
    if not part.alone and part.name != 'machine':
        assert any(row.passed for row in report.rows)


@pytest.mark.parametrize(
    ('task', 'name'),
    [(task, name) for task in (PSPNET, RETINANET) for name in task.configs],
    ids=lambda value: getattr(value, 'scope', value),
)
def test_each_measured_method_trains(task, name):
    learns = learner(task, load(task, name, True), CPU)
    losses = learns.model.train_step(batches(task, True, 1)[0], learns.wrapper)
    assert all(value.isfinite().all() for key, value in losses.items() if 'loss' in key)


class TestSuite:
    """Part that is run only with ``--suite``."""

    def run(self, tmp_path, name='camvid') -> list:
        report = Report()
        SUITE.function()(Setting(CPU, True, 60, tmp_path, (name, 'small')), report)
        return [(row.value, row.passed) for row in report.rows]

    def test_without_data_it_is_skipped_in_a_sentence(self, tmp_path, monkeypatch):
        monkeypatch.setenv('MMADM_DATA', str(tmp_path / 'nowhere'))
        ((said, passed),) = self.run(tmp_path)
        assert said.startswith('skipped: no data in ') and 'set MMADM_DATA' in said and passed is None

    @pytest.mark.parametrize('code', [0, 1])
    def test_each_method_gets_one_seed(self, tmp_path, monkeypatch, code):
        def run(words, check, timeout):
            """Look at the command."""
            args = command.parse_args(words[2:])
            assert (args.suite, args.budget, args.seeds, args.methods) == ('camvid', 'small', [0], None)
            assert 0 < timeout < 60
            return subprocess.CompletedProcess(words, code)

        monkeypatch.setenv('MMADM_DATA', str(tmp_path))
        monkeypatch.setattr(subprocess, 'run', run)
        assert [passed for _, passed in self.run(tmp_path)] == [code == 0]


def test_the_parts_fit_into_eight_minutes():
    assert max(part.seconds for part in PARTS if not part.alone) + sum(p.seconds for p in PARTS if p.alone) <= 480


def test_every_part_can_be_found():
    assert all(callable(part.function()) for part in PARTS)
    assert len({part.name for part in PARTS}) == len(PARTS)
    alone = [part.alone for part in PARTS]
    assert alone == sorted(alone)  # else the first that is alone would wait in between


def test_losses_that_differ_are_found(monkeypatch, tmp_path):
    """bfloat16 stands for a GPU that computes otherwise."""
    monkeypatch.setattr(training, 'other_rounding', lambda device: torch.autocast('cpu', dtype=torch.bfloat16))
    report = Report()
    some = [segmentation_batch(seed=seed) for seed in range(3)]
    training.compare('wrong', method('adm'), 'mmseg', some, Setting(CPU, True, 60, tmp_path), report, lr=0.1)
    assert [row.passed for row in report.rows] == [False]


@pytest.mark.parametrize(
    ('found', 'most'),
    [
        ({'loss': 2.0}, 0.0),
        ({'loss': 2.2}, 0.1),
        ({'loss': float('nan')}, float('inf')),
        ({'other': 2.0}, float('inf')),
    ],
)
def test_deviation(found, most):
    assert training.deviation([found], [{'loss': 2.0}])[0] == pytest.approx(most)


def test_draws_are_those_of_the_cpu():
    def draw() -> list[torch.Tensor]:
        """Some of every kind that networks and methods make."""
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(5)
        return [
            torch.rand(3),
            torch.randn(2, 2),
            torch.empty(4).uniform_(),
            torch.randperm(5),
            torch.nn.functional.dropout(torch.ones(8), 0.5),
            torch.empty(3, dtype=torch.int64).random_(-(2**63), None, generator=generator),
        ]

    right = draw()
    with CpuDraws():
        found = draw()
        torch.manual_seed(0)
        fused, kept = torch.ops.aten.native_dropout(torch.ones(8), 0.5, True)
    assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))
    torch.manual_seed(0)
    assert torch.equal(fused, torch.nn.functional.dropout(torch.ones(8), 0.5))
    assert torch.equal(kept, fused > 0)


def test_the_same_seed_gives_every_device_the_same_network():
    one, other = (build(method('adm')).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


FAKES = """
import os, subprocess, sys, time
def good(setting, report):
    report.figure('speed', 3.0, 'ms')
    report.check('it works', True)
def bad(setting, report):
    report.figure('gap', float('nan'), at_most=1.0)
def raises(setting, report):
    raise ValueError('a reason')
def crashes(setting, report):
    report.check('before the crash', True)
    os._exit(3)
def hangs(setting, report):
    report.figure('before the hang', 1.0)
    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    (setting.folder / 'pid').write_text(str(child.pid))
    time.sleep(60)
"""


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('fakes')
    (folder / 'fake_parts.py').write_text(FAKES)
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(folder))
        parts = [Part(name, name, f'fake_parts:{name}', 60) for name in ('hangs', 'crashes', 'bad', 'raises')]
        parts[0] = Part('hangs', 'hangs', 'fake_parts:hangs', 25)
        parts.append(Part('good', 'good', 'fake_parts:good', 60, alone=True))
        run_parts(parts, Options(folder / 'out', 'cpu', 3.0, 2, True), told.append)
    return folder / 'out', {outcome.name: outcome for outcome in told}


def test_a_part_that_fails_costs_only_itself(outcomes):
    folder, found = outcomes
    ended = {name: outcome.ended for name, outcome in found.items()}
    assert ended == dict(hangs='out of time', crashes='crashed', bad='failed', raises='failed', good='ok')
    assert [row['name'] for row in found['hangs'].rows] == ['before the hang']
    assert [row['name'] for row in found['crashes'].rows] == ['before the crash']
    assert 'a reason' in found['raises'].rows[0]['value'] and 'Traceback' in found['raises'].rows[0]['error']
    assert [entry['name'] for entry in json.loads((folder / 'results.json').read_text())] == list(found)


def test_what_a_part_has_started_ends_with_it(outcomes):
    pid = (outcomes[0] / 'hangs/pid').read_text()
    status = Path(f'/proc/{pid}/status')
    assert not status.exists() or 'State:\tZ' in status.read_text()


def test_the_table_tells_figures_and_faults(outcomes):
    console = Console(width=160, record=True, file=open('/dev/null', 'w'))
    console.print(table(outcomes[1].values(), 'found', everything=False))
    text = console.export_text()
    assert '3 ms' in text and 'NO' in text and 'nan' in text and 'it works' not in text


def test_no_part_begins_when_the_time_is_over(tmp_path):
    (outcome,) = run_parts([PARTS[0]], Options(tmp_path, 'cpu', 0.0, 1, True), lambda outcome: None)
    assert outcome.ended == 'no time left'
