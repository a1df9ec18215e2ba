"""The benchmark runner, its report and tools/test.py on trainings of the demo's detectors on a few large boxes."""

import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from small_trainings import ROOT, role_config, write_images
from street_boxes import ITERATIONS, demo_config, write_boxes

from mmadm.bench.boxes import count_found, predicted_boxes, true_boxes
from mmadm.bench.command import main
from mmadm.bench.confusion import confusion
from mmadm.bench.finished_runs import open_run
from mmadm.bench.records import read_scalars
from mmadm.bench.report import loss_curves
from mmadm.bench.run_description import fingerprint
from mmadm.bench.similarity import adm_maps
from mmadm.bench.suites import NOTES, SUITES
from mmadm.cli import test as score
from mmadm.utils.errors import ConfigError
from mmadm.utils.export import role_config as stock_config_of
from mmadm.utils.export import role_file


@pytest.fixture(scope='module')
def bench(tmp_path_factory):
    """A suite of a stock detector, a pair of them, and a segmentation student; all run once."""
    folder = tmp_path_factory.mktemp('detection')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMADM_DATA', str(write_boxes(folder)))
        configs = {'student_det': demo_config('student_det', 4), 'adm_det': demo_config('adm_det', 2)}
    configs['student'] = role_config(write_images(folder / 'data'), iterations=2)
    configs['student'].randomness = dict(seed=0)
    for name, cfg in configs.items():
        cfg.dump(folder / f'{name}.py')
    out = folder / 'out'
    SUITES['tiny'] = {name: str(folder / f'{name}.py') for name in ('student', 'student_det', 'adm_det')}
    NOTES['tiny'] = ('A tiny suite', 'Little is learned here.')
    assert main(['run', 'tiny', '--out', str(out), '--jobs', '2', '--warm']) == 0
    records = {r['method']: r for r in map(json.loads, (out / 'results.jsonl').read_text().splitlines())}
    return SimpleNamespace(out=out, records=records, folder=folder)


def logged(bench, method, key):
    (value,) = [entry[key] for entry in read_scalars(bench.out / method / 'seed0') if key in entry]
    return value


def test_records_hold_both_scores_of_the_right_roles_in_percent(bench):
    record = bench.records['adm_det']
    assert record['metric'] == 'AP'
    for role in ('student', 'teacher'):
        assert record['val'][role] == pytest.approx(100 * logged(bench, 'adm_det', f'{role}/coco/bbox_mAP'))
        further = record['further']['AP50']
        assert further['val'][role] == pytest.approx(100 * logged(bench, 'adm_det', f'{role}/coco/bbox_mAP_50'))
        assert further['test'][role] == pytest.approx(further['val'][role])
    assert record['test'] == pytest.approx(record['val'])
    assert 0 < record['val']['student'] != record['val']['teacher']


@pytest.mark.parametrize('method', ['student_det', 'adm_det'])
def test_classes_without_boxes_have_no_score_and_the_others_average_to_the_main_one(bench, method):
    record = bench.records[method]
    for role, by_class in record['classes'].items():
        assert set(by_class) == {'person', 'car'}
        assert sum(by_class.values()) / 2 == pytest.approx(record['val'][role], abs=0.11)  # mmdet rounds to 0.1


def test_a_stock_detector_is_scored_once_where_test_and_validation_are_the_same(bench):
    record = bench.records['student_det']
    score = 100 * logged(bench, 'student_det', 'coco/bbox_mAP')
    assert (record['val'], record['test']) == ({'student': pytest.approx(score)}, {})
    assert record['further']['AP50']['test'] == {}
    assert record['parameters']['student'] == bench.records['adm_det']['parameters']['student']
    assert {'mmdet', 'onedl-mmdetection'} & record['versions'].keys()


def test_stock_mmdet_gives_the_same_scores_to_the_role_file(bench, tmp_path):
    work = bench.out / 'adm_det/seed0'
    stock = stock_config_of(Config.fromfile(bench.folder / 'adm_det.py'), 'student')
    assert 'mmadm' not in stock.pretty_text
    checkpoint = str(role_file(work / f'iter_{ITERATIONS}.pth', 'student'))
    stock.merge_from_dict(
        dict(work_dir=str(tmp_path), load_from=checkpoint, experiment_name='stock', log_level='ERROR')
    )
    scores = Runner.from_cfg(stock).test()
    assert 100 * scores['coco/bbox_mAP'] == pytest.approx(bench.records['adm_det']['test']['student'])


def test_predictions_of_a_role_are_painted(bench, tmp_path):
    checkpoint = bench.out / f'adm_det/seed0/iter_{ITERATIONS}.pth'
    arguments = [bench.folder / 'adm_det.py', checkpoint, '--role', 'teacher', '--work-dir', tmp_path / 'work']
    fresh = ('--cfg-options', 'visualizer.name=shown_boxes')  # visualizers of one process share what has one name
    score.main([str(a) for a in (*arguments, '--show-dir', tmp_path / 'shown', *fresh)])
    painted = list((tmp_path / 'shown').glob('**/*.png'))
    assert len(painted) == 3
    assert np.ptp(cv2.imread(str(painted[0]))) > 0


def test_painting_without_the_hook_names_the_one_of_the_toolbox():
    with pytest.raises(ConfigError, match='DetVisualizationHook'):
        score.paint_into(Config(dict(default_scope='mmdet')), 'shown')


@pytest.fixture(scope='module')
def page(bench):
    assert main(['report', str(bench.out)]) == 0
    return (bench.out / 'report.html').read_text(encoding='utf-8')


def test_each_task_has_its_table_and_section(bench, page):
    assert re.findall(r'class="task">(\w+)<', page) == ['Segmentation', 'Detection']
    segmentation, detection = (bench.out / 'results.md').read_text(encoding='utf-8').split('\n\n')
    assert '| mIoU (val) |' in segmentation and 'AP' not in segmentation
    assert '| AP (val) | AP50 (val) |' in detection and 'mIoU' not in detection
    for record in (bench.records['student_det'], bench.records['adm_det']):
        scores = [f'{record["val"]["student"]:.2f}', f'{record["further"]["AP50"]["val"]["student"]:.2f}']
        assert ' | '.join(scores) in detection
        assert f'<td>{scores[0]}' in page
    gain = bench.records['adm_det']['val']['student'] - bench.records['student_det']['val']['student']
    assert f'<td>{gain:+.1f}</td>' in page
    flops = bench.records['adm_det']['flops']
    assert f'<td>{flops:,.0f}</td><td>full</td>' in page and f'| {flops / 1e9:.3f} |' in detection


def test_pictures_show_what_the_deployed_detectors_find(bench, page):
    run = open_run(bench.out / 'adm_det/seed0')
    shown = re.findall(r'<figcaption>adm_det: (\d+) of (\d+) boxes found, (\d+) wrong', page)
    expected = []
    for index in range(len(run.dataset)):
        truth, predicted = true_boxes(run.dataset, index), predicted_boxes(run, run.dataset[index])
        found = count_found(predicted, truth)
        expected.append((str(found), '2', str(len(predicted.labels) - found)))
    assert shown == expected
    assert any(int(found) for found, _, _ in shown)
    assert page.count('<figcaption>ground truth: 2 boxes') == 3
    assert page.count('<figcaption>student_det: ') == 3


def test_boxes_are_confused_as_often_as_they_are_found_missed_and_false(bench, page):
    assert re.findall(r'alt="confusion: ([^"]*)"', page) == ['adm_det - student_det, seed 0']
    run = open_run(bench.out / 'adm_det/seed0')
    matrix = confusion(run, 'detection')
    pairs = [(true_boxes(run.dataset, i), predicted_boxes(run, run.dataset[i])) for i in range(len(run.dataset))]
    # a person and a car on each image, no sign
    assert matrix[:2].sum(axis=1) == pytest.approx([100, 100])
    assert np.isnan(matrix[2]).all()
    total = sum(len(predicted.labels) for _, predicted in pairs)
    taken = matrix[:2, :3].sum() / 100 * len(pairs)
    assert taken + matrix[3].sum() / 100 * 2 * len(pairs) == pytest.approx(total)
    found = sum(count_found(predicted, truth) for truth, predicted in pairs)
    assert 0 < np.diag(matrix)[:2].sum() / 100 * len(pairs) <= found + 1e-9


def test_the_maps_are_those_of_the_finest_level_without_padding(bench):
    run = open_run(bench.out / 'adm_det/seed0')
    item = run.dataset[0]
    item['inputs'] = item['inputs'][:, :50, :120]  # padded to 64x128 again
    maps = adm_maps(run.model, item)
    assert maps.similarity.shape == (1, 13, 30)
    student, teacher = (run.model.roles[role] for role in ('student', 'teacher'))
    with torch.no_grad():
        image = student.data_preprocessor(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))['inputs']
        pair = [role.extract_feat(image)[0][..., :13, :30] for role in (student, teacher)]
    torch.testing.assert_close(maps.similarity, torch.cosine_similarity(*pair, dim=1))
    assert maps.consensus.mean().item() == pytest.approx(1)


def test_foreground_is_drawn_with_the_losses(bench):
    losses = loss_curves(bench.out / 'adm_det/seed0')
    kinds = {f'student.{kind}' for kind in ('foreground', 'foreground_area', 'loss_consensus', 'loss_bbox')}
    assert kinds <= set(losses)
    assert [step for step, _ in losses['student.foreground']][-3:] == [20, 40, 60]


def test_where_the_data_lie_does_not_make_another_config(bench, monkeypatch):
    found = []
    for folder in ('/here', '/there/below'):
        monkeypatch.setenv('MMADM_DATA', folder)
        found.append(fingerprint(Config.fromfile(ROOT / 'configs/demo/student_det.py')))
    assert found[0] == found[1]
