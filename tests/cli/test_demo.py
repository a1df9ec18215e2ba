"""`make demo`, shortened to four iterations on two streets; the figures of the real one are in the docs."""

from __future__ import annotations

import warnings
from pathlib import Path

import PIL.Image
import pytest
import torch
from mmengine.logging import MMLogger
from small_trainings import ROOT
from warm_processes import ForkingLauncher

from mmadm.bench.finished_runs import open_run
from mmadm.bench.records import read_json_lines
from mmadm.cli import demo
from mmadm.demo.comparison import mean_iou
from mmadm.demo.teacher_command import CONFIG, SEED, WEIGHTS
from mmadm.registry import MODELS
from mmadm.utils.config import read_config
from mmadm.utils.scope import use_scope

SHORT = ['train_cfg.max_iters=4', 'train_cfg.val_interval=4']
SHORT += ['default_hooks.checkpoint.interval=2', 'default_hooks.logger.interval=1', 'train_dataloader.batch_size=2']


def run(work_dir: Path, *words: str) -> int:
    return demo.main(['--work-dir', str(work_dir), *words, '--cfg-options', *SHORT])


@pytest.fixture(scope='module')
def few_streets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, 'IMAGES', {'train': 2, 'val': 2})
        patch.setattr(demo, 'Launcher', ForkingLauncher)
        patch.setenv('MMADM_DATA', 'set by the demo')
        patch.setenv('COLUMNS', '120')
        yield


@pytest.fixture(scope='module')
def finished(few_streets, tmp_path_factory) -> Path:
    work_dir = tmp_path_factory.mktemp('demo')
    assert run(work_dir) == 0
    return work_dir


def scores(work_dir: Path) -> dict[str, dict[str, float]]:
    return {record['method']: record['val'] for record in read_json_lines(work_dir / 'results.jsonl')}


def student_weights(work_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(work_dir / 'iter_4_student.pth', weights_only=False)['state_dict']


def test_a_second_start_trains_nothing_and_shows_table_picture_and_next_command(finished, capfd):
    (finished / 'demo.png').unlink()
    before = {path: path.stat().st_mtime_ns for path in finished.glob('*/seed0/*.pth')}
    assert run(finished) == 0
    shown = capfd.readouterr()
    assert '2 of 2 runs are done already' in shown.out
    assert before and before == {path: path.stat().st_mtime_ns for path in finished.glob('*/seed0/*.pth')}
    found = scores(finished)
    gain = found['distilled']['student'] - found['student']['student']
    for text in ('student, plain', 'student, distilled', 'teacher', f'{gain:+.1f}'):
        assert text in shown.out
    assert '$ mmadm distill ' in shown.out and f'--teacher-checkpoint {demo.os.path.relpath(WEIGHTS)}' in shown.out
    assert shown.out.rstrip().endswith('--teacher-checkpoint YOUR_TEACHER.pth --train')
    assert [text for text in demo.KNOWN if text in shown.out + shown.err] == []
    pixels = PIL.Image.open(finished / 'demo.png')
    assert len(pixels.convert('RGB').getcolors(1 << 20)) > 1000  # photographs and class maps


def test_the_mean_iou_is_that_of_the_trainings_evaluator(finished):
    logged = scores(finished)['student']['student']
    assert mean_iou(open_run(finished / 'student/seed0')) == pytest.approx(logged, abs=0.006)  # it rounds to 0.01


def test_the_distilled_student_has_the_teachers_weights_beside_it_and_the_plain_ones_data(finished):
    plain, distilled = read_config(ROOT / demo.STUDENT), read_config(finished / 'distilled.py')
    assert Path(distilled.model.roles.teacher.checkpoint).resolve() == WEIGHTS
    assert distilled.model.roles.student.cfg == plain.model
    for key in ('train_dataloader', 'val_dataloader', 'param_scheduler', 'train_cfg', 'randomness'):
        assert distilled[key] == plain[key]
    assert distilled.optim_wrapper.optimizer == plain.optim_wrapper.optimizer
    assert distilled.model.frozen == ['teacher'] and 'student' not in distilled.optim_wrapper
    assert (finished / 'distilled/seed0/iter_4_student.pth').is_file()


def test_what_was_cut_off_goes_on_and_ends_at_the_same_weights(finished):
    cut, results = finished / 'distilled/seed0', finished / 'results.jsonl'
    whole = student_weights(cut)
    for path in [*cut.glob('iter_4*'), cut / 'train.json', cut / 'train.log']:
        path.unlink()
    (cut / 'last_checkpoint').write_text(str(cut / 'iter_2.pth'))
    results.write_text(''.join(line for line in results.open() if '"method": "student"' in line))
    before = (finished / 'student/seed0/iter_4.pth').stat().st_mtime_ns
    assert run(finished) == 0
    assert 'resumed epoch: 0, iter: 2' in (cut / 'train.log').read_text()
    assert set(scores(finished)) == {'student', 'distilled'}
    assert before == (finished / 'student/seed0/iter_4.pth').stat().st_mtime_ns
    assert whole and all(torch.equal(value, whole[key]) for key, value in student_weights(cut).items())


def test_a_failed_training_is_told_and_nothing_is_compared(finished, monkeypatch, capfd):
    monkeypatch.setattr(demo, 'run_jobs', lambda *words: ['distilled seed 0: it failed'])
    (finished / 'demo.png').unlink(missing_ok=True)
    assert run(finished) == 1
    shown = capfd.readouterr().out
    assert 'distilled seed 0: it failed' in shown and 'gain' not in shown and 'next' not in shown
    assert not (finished / 'demo.png').exists()


def test_full_runs_the_suite_in_a_folder_of_its_own(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(demo, 'compare', lambda *words: called.append(('compare', *words)) or [])
    monkeypatch.setattr(demo, 'run_suite', lambda *words: called.append(('suite', *words)) or [])
    assert run(tmp_path) == 0 and [name for name, *_ in called] == ['compare']
    assert run(tmp_path, '--full') == 0
    assert [words[:2] for words in called[1:]] == [('compare', tmp_path), ('suite', tmp_path / 'full')]
    assert called[2][2] == SHORT
    monkeypatch.setattr(demo, 'compare', lambda *words: ['it failed'])
    assert run(tmp_path, '--full') == 1 and len(called) == 3


def test_only_known_warnings_are_left_out(logged):
    logger = MMLogger.get_current_instance()
    with pytest.warns(UserWarning) as caught, demo.without_known_warnings():
        warnings.warn(f'{demo.KNOWN[0]} as an API', UserWarning, stacklevel=1)
        warnings.warn('The learning rate is 0', UserWarning, stacklevel=1)
        logger.warning(f'{demo.KNOWN[4]} with value of x')
        logger.warning('The loss is large')
    logger.warning(f'{demo.KNOWN[4]} afterwards')
    assert [str(warning.message) for warning in caught] == ['The learning rate is 0']
    assert [record.getMessage() for record in logged.records] == ['The loss is large', f'{demo.KNOWN[4]} afterwards']


def test_the_packages_teacher_is_small_fits_its_config_and_names_no_folder():
    assert WEIGHTS.stat().st_size <= 1e6
    loaded = torch.load(WEIGHTS, map_location='cpu', weights_only=True)
    assert {value.dtype for value in loaded['state_dict'].values()} == {torch.float16, torch.int64}
    use_scope('mmseg')
    model = MODELS.build(read_config(ROOT / CONFIG).model)
    model.load_state_dict(loaded['state_dict'])
    assert len(loaded['meta']['dataset_meta']['classes']) == 19
    assert 'data_preprocessor' in loaded['meta']['cfg'] and 'data_root' not in loaded['meta']['cfg']


def test_the_teacher_saw_other_streets():
    assert SEED != demo.make_streets_command.parse_args([]).seed
