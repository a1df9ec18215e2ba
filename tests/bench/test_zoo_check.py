"""The check of the model zoos: which kinds it finds, what it says of each, and that nothing ends it."""

from __future__ import annotations

import json

import pytest
import small_detectors
import small_segmentors

from mmadm.bench.records import read_json_lines
from mmadm.bench.zoo_check import command, worker
from mmadm.bench.zoo_check.kinds import kinds_of
from mmadm.bench.zoo_check.table import counts, newest, reasons

VERDICTS = ('feats', 'logits', 'step')
#: makes a process end, hang or fail where a config asks for it; lies in the package of the made-up zoo
NETWORKS = """
import os, time
from mmengine.model import BaseModel
from mmadm.registry import MODELS

class Network(BaseModel):
    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs

@MODELS.register_module()
class Ends(Network):
    def __init__(self, **kwargs):
        os._exit(3)

@MODELS.register_module()
class Hangs(Network):
    def __init__(self, **kwargs):
        time.sleep(60)
"""


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """An installed toolbox `tinyzoo` with a few configs."""
    root = tmp_path / 'tinyzoo'
    (root / '.mim' / 'configs' / 'all').mkdir(parents=True)
    (root / '__init__.py').touch()
    (root / 'networks.py').write_text(NETWORKS)
    fcn = small_segmentors.segmentor()
    deeper = {**fcn, 'backbone': {**fcn['backbone'], 'depth': 34}}
    imports = "custom_imports = dict(imports=['tinyzoo.networks'])"
    configs = dict(
        a_retina=f"default_scope = 'mmdet'\nmodel = {small_detectors.detector('retinanet')}",
        b_fcn34=f"default_scope = 'mmseg'\nmodel = {deeper}",
        c_fcn18=f"default_scope = 'mmseg'\nmodel = {fcn}",
        d_ends=f"{imports}\nmodel = dict(type='mmadm.Ends')",
        e_hangs=f"{imports}\nmodel = dict(type='mmadm.Hangs')",
        f_schedule='max_epochs = 3',
    )
    for name, text in configs.items():
        (root / '.mim' / 'configs' / 'all' / f'{name}.py').write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return 'tinyzoo'


def test_a_kind_is_checked_by_its_smallest_config(zoo):
    found = {kind.config: kind.name for kind in kinds_of(zoo)}
    assert found == {
        'tinyzoo::all/a_retina.py': 'RetinaNet ResNet RetinaHead FPN',
        'tinyzoo::all/c_fcn18.py': 'EncoderDecoder ResNet FCNHead',
        'tinyzoo::all/d_ends.py': 'Ends',
        'tinyzoo::all/e_hangs.py': 'Hangs',
    }


def test_networks_that_work_are_built_and_trained(zoo):
    for name in ('a_retina', 'c_fcn18'):
        found = worker.check(f'{zoo}::all/{name}.py')
        assert {at: found[at] for at in found} == {at: dict(verdict='built', reason='') for at in found}
    assert worker.check(f'{zoo}::all/c_fcn18.py', steps=False)['step'] == dict(verdict='none', reason='')


def test_what_is_refused_at_one_tap_is_still_tried_at_the_other(zoo, tmp_path):
    dino = small_detectors.detector('deformable')
    (tmp_path / zoo / '.mim/configs/all/g_detr.py').write_text(f"default_scope = 'mmdet'\nmodel = {dino}")
    found = worker.check(f'{zoo}::all/g_detr.py')
    assert {at: found[at]['verdict'] for at in found} == dict(feats='built', logits='refused', step='built')
    assert 'the queries of two decoders do not correspond' in found['logits']['reason']


def test_neither_a_crash_nor_a_hang_ends_the_check(zoo, tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    patient, hasty = worker.Worker(120), worker.Worker(1)
    ends, hangs = patient.check(f'{zoo}::all/d_ends.py'), hasty.check(f'{zoo}::all/e_hangs.py')
    assert [ends[at] for at in VERDICTS] == [dict(verdict='error', reason='the process ended with code 3')] * 3
    assert [hangs[at] for at in VERDICTS] == [dict(verdict='slow', reason='takes more than 1 s')] * 3
    assert hangs['seconds'] >= 1


def test_what_is_done_is_not_done_again_unless_its_verdict_is_asked_for(zoo, tmp_path, monkeypatch):
    out, checked = tmp_path / 'zoo.jsonl', []

    class Noted:
        def __init__(self, limit, steps):
            assert limit == 7 and steps

        def check(self, config):
            checked.append(config.partition('all/')[2])
            verdict = 'error' if 'fcn' in config else 'built'
            return {at: dict(verdict=verdict, reason='') for at in VERDICTS} | dict(seconds=1.0)

        def close(self):
            checked.append('closed')

    monkeypatch.setattr(command, 'Worker', Noted)
    arguments = ['run', '--toolboxes', zoo, '--only', 'a_|c_', '--limit', '7', '--out', str(out)]
    assert [command.main(arguments), command.main(arguments), command.main([*arguments, '--again', 'error'])] == [1] * 3
    assert checked == ['a_retina.py', 'c_fcn18.py', 'closed', 'closed', 'c_fcn18.py', 'closed']
    assert [json.loads(line)['kind'] for line in out.read_text().splitlines()][1:] == [
        'EncoderDecoder ResNet FCNHead'
    ] * 2


def record(config, feats, logits, step, reason=''):
    verdicts = dict(feats=feats, logits=logits, step=step)
    return dict(toolbox='mmseg', config=config, **{at: dict(verdict=v, reason=reason) for at, v in verdicts.items()})


def test_tables_count_the_newest_verdicts_and_group_equal_reasons():
    records = newest(
        [
            record('a', 'error', 'error', 'none'),
            record('a', 'built', 'built', 'built'),
            record('b', 'built', 'refused', 'stock', "role 'student': has\nno such tap"),
            record('c', 'refused', 'refused', 'none', "role 'teacher': has no such tap"),
            record('d', 'built', 'built', 'built'),
        ]
    )
    assert counts(records).splitlines()[-1] == '| mmseg | 4 | 3 (75 %) | 1 | 0 | 0 | 2 | 0 | 2 | 0 | 1 |'
    assert reasons(records, 'logits', ['refused']).splitlines()[2:] == ['| 2 | `b` | refused | role: has no such tap |']


def test_the_page_says_what_the_committed_check_found(repo_root):
    records = newest(read_json_lines(repo_root / 'benchmarks/zoo.jsonl'))
    page = (repo_root / 'docs/networks.md').read_text(encoding='utf-8')
    assert counts(records) in page and reasons(records, 'feats', ('refused', 'error', 'slow')) in page
    built = [record for record in records if record['feats']['verdict'] == 'built']
    assert f'{len(built)} of {len(records)} are built at `feats`' in page
    without_scores = [record for record in built if record['logits']['verdict'] != 'built']
    assert f'{len(without_scores)} kinds, each with the sentence' in page
    assert {record[at]['verdict'] for record in records for at in ('feats', 'logits')} == {'built', 'refused'}
