"""The page about one training: of roles that segment, resumed; of detectors by epochs, cut off; of a stock model."""

import json
import re
import shutil
from inspect import signature
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from small_trainings import Break, role_config, runner_of, stock_config, write_images
from street_boxes import demo_config, write_boxes

from mmadm.bench.finished_runs import FinishedRun, load_model, predict, right_pixels, truth
from mmadm.bench.loss_groups import TOTAL, WATCHED, loss_groups
from mmadm.bench.records import read_scalars
from mmadm.bench.run_facts import class_scores_of, facts, role_table, run_curves
from mmadm.bench.run_page import write_run_page
from mmadm.bench.work_dir import open_work_dir
from mmadm.cli.config_text import statement
from mmadm.utils.errors import ConfigError


def train(cfg, work_dir, stop=None, **changes):
    """Train with mmengine's own Runner; its folder gets a name of its own, as two may start in one second."""
    number = len(list(work_dir.glob('20*')))
    runner = runner_of(cfg, work_dir, **{'log_level': 'INFO', **changes})
    if stop is not None:
        runner.register_hook(Break(stop))
    try:
        runner.train()
    except InterruptedError:
        pass
    folder = (work_dir / runner.timestamp).rename(work_dir / f'20300101_00000{number}')
    text = ''.join(statement(key, value) for key, value in (cfg.to_dict() | changes).items())
    for file in (folder / 'vis_data/config.py', work_dir / 'mine.py'):  # mmengine's own formatting takes long
        file.write_text(text)


def written(work_dir, images=True):
    """The page of a work dir, without its pictures, and what it lacks."""
    target = work_dir / 'page' / 'report.html'
    lacking = write_run_page(open_work_dir(work_dir), target, images, lambda what: None)
    return re.sub(r'"data:[^"]*"', '""', target.read_text(encoding='utf-8')), lacking


def alts(page):
    return re.findall(r'<img src="" alt="([^"]+)"', page)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('segmentation') / 'data')


@pytest.fixture(scope='module')
def resumed(data, tmp_path_factory):
    """A student and a teacher: killed in iteration 4, resumed from iteration 2, and the page about them."""
    work_dir = tmp_path_factory.mktemp('resumed')
    cfg = role_config(data, iterations=4, role_val=True)
    train(cfg, work_dir, stop=3)
    train(cfg, work_dir, resume=True, load_from=str(work_dir / 'iter_2.pth'))
    page, lacking = written(work_dir)
    return SimpleNamespace(work_dir=work_dir, page=page, lacking=lacking)


@pytest.fixture(scope='module')
def detectors(tmp_path_factory):
    """A detector and its frozen teacher by epochs, cut off in the third of four."""
    folder = tmp_path_factory.mktemp('detection')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMADM_DATA', str(write_boxes(folder)))
        cfg = demo_config('adm_det', 1)
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1)
    cfg = Config({key: value for key, value in cfg.items() if key in signature(Runner).parameters})
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=2)
    cfg.default_hooks.checkpoint = dict(type='mmadm.RoleCheckpointHook', interval=1)
    cfg.log_processor = dict(by_epoch=True)
    cfg.val_evaluator.classwise = True
    cfg.visualizer.pop('name', None)  # mmengine hands the visualizer of an equal name on, with its folder
    work_dir = folder / 'work'
    train(cfg, work_dir, stop=9)
    page, lacking = written(work_dir)
    return SimpleNamespace(work_dir=work_dir, page=page, lacking=lacking)


def test_the_page_of_a_resumed_run_says_how_far_it_is(resumed):
    assert resumed.lacking == []
    assert 'One training, finished: 4 iterations. It was started 2 times' in resumed.page
    assert [entry['step'] for entry in read_scalars(resumed.work_dir) if 'loss' in entry] == [1, 2, 3, 4]
    assert all(source.startswith(('', 'data:')) for source in re.findall(r'(?:src|href)="([^"]*)', resumed.page))


def test_every_role_has_its_last_and_best_score(resumed):
    run = open_work_dir(resumed.work_dir)
    header, rows = role_table(run, run_curves(run))
    assert header == ['role', 'network', 'learns', 'starts from', 'last mIoU', 'best mIoU']
    for row, role in zip(rows, ('student', 'teacher'), strict=True):
        scores = {entry['step']: entry[f'{role}/mIoU'] for entry in run.scalars if f'{role}/mIoU' in entry}
        assert list(scores) == [2, 4]
        best = max(scores, key=scores.get)
        assert row[4:] == [f'{scores[4]:.2f}', f'{scores[best]:.2f} at {best}']
        assert all(f'<td>{cell}</td>' in resumed.page for cell in row)


def test_scores_by_class_belong_to_their_role_and_to_the_last_validation(resumed):
    run = open_work_dir(resumed.work_dir)
    scores = class_scores_of(run)
    for role in ('student', 'teacher'):
        last = [entry[f'{role}/mIoU'] for entry in run.scalars if f'{role}/mIoU' in entry][-1]
        assert sum(scores[role].values()) / len(scores[role]) == pytest.approx(last, abs=0.011)
    assert scores['student'] != scores['teacher']


def test_every_role_predicts_the_examples(resumed):
    run = open_work_dir(resumed.work_dir)
    model = load_model(run.cfg, run.checkpoint)
    dataset = Runner.build_dataloader(run.cfg.val_dataloader).dataset
    for role in ('student', 'teacher'):
        shown = re.findall(rf'<figcaption>{role}: ([\d.]+) % of pixels right', resumed.page)
        items = [dataset[index] for index in range(len(dataset))]
        network = FinishedRun(run.cfg, model.roles[role], dataset)
        assert shown == [f'{right_pixels(predict(network, item), truth(item)):.1f}' for item in items]


def test_figures_are_by_role_and_by_distiller(resumed):
    figures = [
        'validation mIoU of every role', 'task losses of student', 'task losses of teacher',
        'losses of distiller mutuallearning', 'losses of distiller adm', WATCHED, TOTAL,
    ]  # fmt: skip
    assert alts(resumed.page)[: len(figures)] == figures
    assert {'confusion: student', 'confusion: teacher', 'mean similarity by class', 'IoU by class'} <= set(
        alts(resumed.page)
    )
    assert 'max_iters=4' in resumed.page  # the config


def test_what_it_cost_is_the_median_of_the_log(resumed):
    told = dict(facts(open_work_dir(resumed.work_dir)))
    times = sorted([entry['time'] for entry in read_scalars(resumed.work_dir) if 'loss' in entry][1:])
    assert told['time of an iteration'].startswith(f'{times[1]:.3f} s')
    assert told['peak memory of the GPU'] == 'not logged: it ran on a CPU'
    assert told['newest checkpoint'].startswith('iter_4.pth (epoch 0, iter 4, seed 3, written 20')
    assert told['seed'] == '3' and told['last started from'].endswith('iter_2.pth')


def test_paths_are_told_without_their_way_up_and_down(resumed, tmp_path):
    work_dir = shutil.copytree(resumed.work_dir, tmp_path / 'work')
    run = open_work_dir(work_dir)
    run.cfg.model.roles.teacher = dict(cfg=run.cfg.model.roles.teacher, checkpoint='/a/b/../teacher.pth')
    assert [row[3] for row in role_table(run, {})[1]] == ['its initialisation', '/a/teacher.pth']
    run.cfg.model.roles.teacher.checkpoint = 'https://a/b/../teacher.pth'
    assert role_table(run, {})[1][1][3] == 'https://a/b/../teacher.pth'


def test_detectors_by_epochs_that_were_cut_off(detectors):
    assert detectors.lacking == []
    assert 'not finished: 2 of 4 epochs are logged or saved' in detectors.page
    run = open_work_dir(detectors.work_dir)
    assert list(run_curves(run)) == ['AP', 'AP50']
    assert [step for step, _ in run_curves(run)['AP']['student']] == [1, 2]
    assert {'validation AP of every role', 'AP by class', 'confusion: teacher'} <= set(alts(detectors.page))
    assert 'ground truth: 2 boxes' in detectors.page and 'best with the epoch' in detectors.page


def test_without_images_only_figures(detectors):
    page, lacking = written(detectors.work_dir, images=False)
    assert lacking == [] and '<figure>' not in page
    assert 'confusion: student' in alts(page)


def test_what_is_not_at_hand_is_said(data, resumed, tmp_path):
    work_dir = shutil.copytree(resumed.work_dir, tmp_path / 'work')
    for file in work_dir.glob('*/vis_data/config.py'):
        file.write_text(file.read_text().replace(str(data), str(tmp_path / 'moved')))
    page, lacking = written(work_dir)
    assert [line.partition(':')[0] for line in lacking] == ['Predictions'] and 'moved' in lacking[0]
    assert lacking[0].replace("'", '&#39;') in page and TOTAL in alts(page)
    for file in (*work_dir.glob('*.pth'), work_dir / 'last_checkpoint'):
        file.unlink()
    assert written(work_dir)[1] == ['Predictions: there is no checkpoint.']


def test_a_stock_model_without_validation(data, tmp_path):
    cfg = stock_config(data, iterations=2, val_interval=9)
    # what a hand-written config has by default: logs by epoch, a stock checkpoint hook
    cfg.default_hooks = dict(logger=dict(type='LoggerHook', interval=1), checkpoint=dict(type='CheckpointHook'))
    train(cfg, tmp_path, val_cfg=None, val_dataloader=None, val_evaluator=None)
    page, lacking = written(tmp_path)
    assert lacking[:1] == ['Learning curves: no validation was logged.']
    assert alts(page)[0] == 'task losses' and 'confusion: model' in alts(page)


def test_a_metric_that_no_table_knows_is_drawn_by_role(resumed, tmp_path):
    work_dir = shutil.copytree(resumed.work_dir, tmp_path / 'work')
    for file in work_dir.glob('*/vis_data/scalars.json'):
        file.write_text(file.read_text().replace('/aAcc', '/accuracy/top1').replace('/mIoU', '/other'))
    curves = run_curves(open_work_dir(work_dir))
    assert {metric: list(by_role) for metric, by_role in curves.items()} == {'accuracy/top1': ['student', 'teacher']}


def test_losses_go_to_their_distiller():
    distillers = [
        dict(type='mmadm.Transfer', source='teacher', learner='student'),
        dict(type='mmadm.Transfer', source='teacher', learner='student'),
        dict(type='mmadm.Transfer', source='teacher', learner='peer', name='second'),
        dict(type='mmadm.SOKD'),
        dict(type='mmadm.LD'),
    ]
    expected = {
        'student.loss_cls': 'task losses of student',
        'peer.roi.loss_bbox': 'task losses of peer',
        'student.loss_transfer': 'losses of distiller transfer',
        'student.loss_transfer_transfer_1': 'losses of distiller transfer_1',
        'peer.loss_transfer': 'losses of distiller second',
        'student.loss_from_bridge': 'losses of distiller sokd',
        'student.loss_ld_main': 'losses of distiller ld',
        'student.similarity': WATCHED,
        'student.loss': TOTAL,
    }
    entry = dict.fromkeys([*expected, 'loss', 'idle_loss', 'lr', 'student.decode.acc_seg'], 1.0)
    groups = loss_groups([{**entry, 'step': 1}], ['student', 'peer', 'teacher'], distillers)
    assert {key: title for title, curves in groups.items() for key in curves} == expected
    assert list(groups)[-2:] == [WATCHED, TOTAL]
    fused = loss_groups([{'loss': 1.0, 'fusion.loss_students': 2.0, 'step': 3}], ['leader'], [dict(type='mmadm.FFSD')])
    assert fused == {'losses of distiller ffsd': {'fusion.loss_students': [(3, 2.0)]}}


@pytest.mark.parametrize(
    ('where', 'message'),
    [
        ('nowhere', 'no such folder'),
        ('empty', 'holds no log of a training'),
        ('benchmark', 'use: mmadm benchmark report'),
        ('several', 'holds 2 work dirs; give one of them, such as'),
        ('several/a/20300101_000000', 'is a part of a work dir; give'),
        ('several/a/20300101_000000/vis_data', 'is a part of a work dir; give'),
        ('several/a', 'its log holds no training step; lower default_hooks.logger.interval'),
        ('bare', 'holds no config of its training'),
        ('broken', 'cannot be read as a config (SyntaxError'),
    ],
)
def test_a_folder_that_is_no_work_dir(tmp_path, where, message):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'benchmark/adm/seed0').mkdir(parents=True)
    step = json.dumps(dict(step=1, loss=1.0))
    for name, line in (('several/a', '{"step": 1}'), ('several/b', step), ('bare', step), ('broken', step)):
        folder = tmp_path / name / '20300101_000000/vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text(line)
    (tmp_path / 'broken/broken.py').write_text('model = dict(')
    with pytest.raises(ConfigError, match=re.escape(message)):
        open_work_dir(tmp_path / where)
