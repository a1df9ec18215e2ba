"""The benchmark runner and its report on real trainings of tiny networks."""

import json
import re
import shutil
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from small_segmentors import build, segmentor
from small_trainings import role_config, runner_of, stock_config, write_images

from mmadm.bench import step_cost
from mmadm.bench.command import main
from mmadm.bench.confusion import confusion, confusion_section
from mmadm.bench.finished_runs import open_run, predict, right_pixels, truth
from mmadm.bench.jobs import Job, check_same_config
from mmadm.bench.records import read_json_lines, read_scalars
from mmadm.bench.report import learning_curves, loss_curves, write_report
from mmadm.bench.similarity import adm_maps
from mmadm.bench.suites import NOTES, SUITES
from mmadm.bench.tables import summarise
from mmadm.utils.errors import ConfigError


def scores_of(scalars, role):
    return [entry[f'{role}/mIoU'] for entry in scalars if f'{role}/mIoU' in entry]


@pytest.fixture(scope='module')
def bench(tmp_path_factory):
    """A suite of a stock model, a pair whose run was cut off half-way, and a config that fails; all run once."""
    folder = tmp_path_factory.mktemp('benchmark')
    data = write_images(folder / 'data')
    pair = role_config(data, iterations=4, role_val=True)
    # other loader, same images: the test must find exactly the last validation's scores again
    pair.test_dataloader = dict(deepcopy(pair.val_dataloader), batch_size=2)
    broken = stock_config(folder / 'nowhere', iterations=4)
    configs = {'student': stock_config(data, iterations=4), 'adm': pair, 'broken': broken}
    for name, cfg in configs.items():
        cfg.randomness = dict(seed=0)
        cfg.dump(folder / f'{name}.py')
    out = folder / 'out'
    half = deepcopy(pair)
    half.train_cfg.max_iters = 2
    runner_of(half, out / 'adm' / 'seed0').train()

    SUITES['tiny'] = {name: str(folder / f'{name}.py') for name in configs}
    NOTES['tiny'] = ('A tiny <suite>', 'Nothing is learned here.')
    code = main(['run', 'tiny', '--out', str(out), '--jobs', '2', '--warm'])
    records = {r['method']: r for r in map(json.loads, (out / 'results.jsonl').read_text().splitlines())}
    return SimpleNamespace(out=out, code=code, records=records)


def test_a_failed_run_is_told_and_the_others_go_on(bench):
    assert bench.code == 1
    assert set(bench.records) == {'student', 'adm'}
    assert 'nowhere' in (bench.out / 'broken/seed0/train.log').read_text()


def test_records_hold_the_scores_of_the_right_roles(bench):
    scalars = read_scalars(bench.out / 'adm/seed0')
    record = bench.records['adm']
    assert record['val'] == {role: scores_of(scalars, role)[-1] for role in ('student', 'teacher')}
    assert record['test'] == pytest.approx(record['val'], abs=0.011)  # the metric rounds to 0.01
    assert record['val']['student'] != record['val']['teacher']
    assert set(record['classes']) == {'student', 'teacher'}
    mean = sum(record['classes']['teacher'].values()) / len(record['classes']['teacher'])
    assert mean == pytest.approx(record['test']['teacher'], abs=0.011)


def test_a_stock_model_is_scored_once_where_test_and_validation_are_the_same(bench):
    record = bench.records['student']
    last = [entry for entry in read_scalars(bench.out / 'student/seed0') if 'mIoU' in entry][-1]
    assert (record['val'], record['test'], last['step']) == ({'student': last['mIoU']}, {}, 4)
    assert not (bench.out / 'student/seed0/test_student').exists()


def test_records_say_what_the_run_cost(bench):
    record = bench.records['adm']
    sizes = {'student': 4, 'teacher': 8}
    assert record['parameters'] == {
        role: sum(p.numel() for p in build(segmentor(width)).parameters()) for role, width in sizes.items()
    }
    times = [entry['time'] for entry in read_scalars(bench.out / 'adm/seed0') if 'loss' in entry]
    assert len(times) == 4
    assert record['time'] == pytest.approx(sorted(times[1:])[1])
    assert 100 < record['memory'] < 4000  # MiB: more than torch alone, less than a large network
    assert record['versions']['torch'] == torch.__version__


def test_an_interrupted_run_is_resumed(bench):
    assert [entry['step'] for entry in read_scalars(bench.out / 'adm/seed0') if 'loss' in entry] == [1, 2, 3, 4]
    log = (bench.out / 'adm/seed0/train.log').read_text()
    assert 'resumed epoch: 0, iter: 2' in log


def test_finished_runs_are_skipped(bench):
    before = (bench.out / 'results.jsonl').read_bytes()
    log = (bench.out / 'adm/seed0/train.log').stat()
    assert main(['run', 'tiny', '--methods', 'student', 'adm', '--out', str(bench.out)]) == 0
    assert (bench.out / 'results.jsonl').read_bytes() == before
    assert (bench.out / 'adm/seed0/train.log').stat() == log


def test_runs_with_other_settings_are_not_mixed(bench):
    before = (bench.out / 'results.jsonl').read_bytes()
    options = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.5']
    assert main(['run', 'tiny', '--methods', 'student', '--out', str(bench.out), *options]) == 1
    assert (bench.out / 'results.jsonl').read_bytes() == before


def test_another_config_in_the_same_folder_is_refused(tmp_path):
    job = Job(
        'tiny', 'adm', 0, 'adm.py', (), tmp_path / 'run', 4, 'iterations', ('student',), True, False,
        {'config_sha': 'new'},
    )  # fmt: skip
    check_same_config(job)
    check_same_config(job)
    (tmp_path / 'run' / 'config.sha').write_text('old')
    with pytest.raises(ConfigError, match='other settings'):
        check_same_config(job)


def test_an_unknown_method_names_the_near_ones(bench, capsys):
    assert main(['run', 'tiny', '--methods', 'studnet']) == 2
    assert "'student'" in capsys.readouterr().out


@pytest.fixture(scope='module')
def page(bench):
    target = bench.out / 'page' / 'report.html'
    assert main(['report', str(bench.out), '--out', str(target)]) == 0
    return target.read_text(encoding='utf-8')


def test_the_page_needs_nothing_else(page):
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert len(sources) > 10
    assert all(source.startswith('data:image/png;base64,') for source in sources)
    assert '@import' not in page
    assert 'url(' not in page


def test_the_page_shows_the_scores_of_the_records(bench, page):
    table = (bench.out / 'results.md').read_text(encoding='utf-8')
    for record in bench.records.values():
        score = f'{record["val"]["student"]:.2f}'
        assert f'<td>{score}' in page
        assert f'| {score} |' in table
    assert 'A tiny &lt;suite&gt;' in page
    assert 'broken' not in page


def test_every_example_shows_what_the_deployed_network_predicts(bench, page):
    shown = [float(number) for number in re.findall(r'<figcaption>adm: ([\d.]+) % of pixels right', page)]
    run = open_run(bench.out / 'adm/seed0')
    found = []
    for index in range(len(run.dataset)):
        item = run.dataset[index]
        found.append(round(right_pixels(predict(run, item), truth(item)), 1))
    assert shown == found


def test_the_page_compares_cost_and_confusion_with_the_plain_student(bench, page):
    assert 'alt="cost against gain by method"' in page and 'with one seed there is none' in page
    assert re.findall(r'alt="confusion: ([^"]*)"', page) == ['adm - student, seed 0']
    assert '3 of the 3 images' in page.replace('\n', ' ')
    assert 'What ADM builds on' not in page and 'Settings of ADM' not in page
    assert page.count('<td>-</td><td>full</td>') == 2  # without a size of test images, FLOPs were not counted


def test_without_images_the_page_has_its_figures_and_no_picture_of_the_data(bench, page, tmp_path):
    target = tmp_path / 'report.html'
    assert main(['report', str(bench.out), '--out', str(target), '--no-images']) == 0
    bare = target.read_text(encoding='utf-8')
    drawn, left_out = re.compile(r'<div class="plots">.*?</div>'), 'Example predictions'
    assert drawn.findall(bare) == drawn.findall(page)
    assert (page.count('<figure>') > 0, bare.count('<figure>')) == (True, 0)
    assert (left_out in page, left_out in bare) == (True, False)


def test_confusion_is_what_the_deployed_network_makes_of_each_class(bench):
    run = open_run(bench.out / 'adm/seed0')
    items = [run.dataset[index] for index in range(len(run.dataset))]
    labels = torch.cat([truth(item) for item in items])
    found = torch.cat([predict(run, item) for item in items])
    matrix = confusion(run, 'segmentation')
    for true in labels.unique().tolist():
        for predicted in range(len(matrix)):
            share = (found[labels == true] == predicted).double().mean().item()
            assert matrix[true, predicted] == pytest.approx(100 * share)
    assert matrix.max() > 0


def test_confusion_is_compared_for_the_first_seed_that_both_have(bench):
    student, adm = (bench.records[method] for method in ('student', 'adm'))
    records = [student, {**student, 'seed': 1}, {**adm, 'seed': 1}, {**adm, 'seed': 2}]
    opened = []

    def run_of(record):
        opened.append((record['method'], record['seed']))
        return open_run(bench.out / record['work_dir'])

    section = confusion_section(records, summarise(records, split='val'), 'segmentation', run_of)
    assert [plot.caption for plot in section['plots']] == ['confusion: adm - student, seed 1']
    assert opened[:2] == [('student', 1), ('adm', 1)]
    apart = [student, {**adm, 'seed': 3}]
    assert confusion_section(apart, summarise(apart, split='val'), 'segmentation', run_of) is None


def test_the_page_shows_settings_and_observations_where_runs_have_them(bench, tmp_path):
    shutil.copytree(bench.out / 'adm', tmp_path / 'adm')
    (log,) = list((tmp_path / 'adm').glob('seed0/*/vis_data/scalars.json'))[-1:]
    overlaps = {'student.overlap_similar': 0.3, 'student.overlap_chance': 0.1, 'teacher.overlap_active': 0.2}
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text('\n'.join(json.dumps(entry | overlaps) for entry in entries))
    gains = {f'adm_a{alpha}_b{beta}_t0.1_softmax': alpha + beta for alpha in (1, 2) for beta in (0.1, 0.5)}
    score = bench.records['adm']['val']['student']
    records = [
        {**bench.records['adm'], 'method': method, 'val': {'student': score + gain, 'teacher': 1.0}}
        for method, gain in {'dml': 0, **gains}.items()
    ]
    write_report(tmp_path, records, tmp_path / 'page.html', 'Settings', 'A note.')
    page = (tmp_path / 'page.html').read_text(encoding='utf-8')
    assert '<td>max</td><td>+2.50 (adm_a2_b0.5_t0.1_softmax)</td>' in page
    assert page.count('alt="ADM above DML by alpha and beta"') == 1
    assert page.count('alt="overlap with objects, ') == len(records)
    assert 'Cost and gain' not in page and '<h2>Confusion' not in page  # no plain student


def test_the_maps_are_those_that_the_distiller_sees(bench):
    run = open_run(bench.out / 'adm/seed0')
    item = run.dataset[0]
    maps = adm_maps(run.model, item)
    image = (item['inputs'].flip(0).float()[None] - 120) / 58
    with torch.no_grad():
        student, teacher = (run.model.roles[role].backbone(image)[-1] for role in ('student', 'teacher'))
        (connector,) = run.model.connectors['adm'].values()
        expected = F.cosine_similarity(connector(student), teacher, dim=1)
    torch.testing.assert_close(maps.similarity, expected)
    for weights, sign in ((maps.consensus, 1), (maps.divergence, -1)):
        flat = (sign * expected.flatten(1) / run.model.distillers['adm'].options['tau']).softmax(dim=1) * expected[
            0
        ].numel()
        torch.testing.assert_close(weights.flatten(1), flat)


def test_a_stock_model_has_no_maps(bench):
    run = open_run(bench.out / 'student/seed0')
    assert adm_maps(run.model, run.dataset[0]) is None


def test_curves_come_from_the_logs(bench):
    records = list(bench.records.values())
    curves = learning_curves(bench.out, records)
    scores = scores_of(read_scalars(bench.out / 'adm/seed0'), 'student')
    assert curves['student']['adm'] == [list(zip((2, 4), scores, strict=True))]
    assert set(curves['teacher']) == {'adm'}
    losses = loss_curves(bench.out / 'adm/seed0')
    assert set(losses) == {
        'student.decode.loss_ce', 'teacher.decode.loss_ce', 'student.loss_mutual', 'teacher.loss_mutual',
        'student.loss_consensus', 'teacher.loss_divergence', 'student.similarity',
    }  # fmt: skip
    assert [step for step, _ in losses['student.loss_consensus']] == [1, 2, 3, 4]


def test_a_folder_without_runs_is_told(bench, tmp_path, capsys):
    assert main(['report', str(tmp_path)]) == 2
    assert 'no finished run' in capsys.readouterr().out


def test_costs_are_measured_once_for_each_method_of_several_roles(bench, monkeypatch):
    monkeypatch.setattr(step_cost, 'ROUNDS', 1)
    arguments = ['run', 'tiny', '--methods', 'student', 'adm', '--out', str(bench.out), '--costs']
    assert main(arguments) == 0
    (found,) = read_json_lines(bench.out / 'cost.jsonl')
    times = found['milliseconds']
    assert (found['method'], found['config_sha']) == ('adm', bench.records['adm']['config_sha'])
    assert found['step'] == pytest.approx(times['whole step'] / times['plain step of student'])
    before = (bench.out / 'cost.jsonl').read_bytes()
    assert main(arguments) == 0
    assert (bench.out / 'cost.jsonl').read_bytes() == before
