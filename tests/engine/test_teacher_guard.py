"""The guard of frozen teachers: what it finds fault with, in which words, and that it changes nothing else."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from frozen_teacher_trainings import offline, refused_rank, untrained, write_colours
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from small_segmentors import segmentor
from small_trainings import NAMES, role_config, runner_of, same, stock_config, weights_of
from warm_processes import spawn_two

from mmadm.utils.errors import ConfigError

#: predicting one of five classes everywhere scores up to 20, and a tenth more counts as guessing
LIMITS = 'scores up to 20.00 and a trained role more than 22.00'


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_colours(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory) -> Path:
    """Checkpoint of a teacher that knows the colours; it records the config of its training."""
    folder = tmp_path_factory.mktemp('teacher')
    cfg = stock_config(data, iterations=60, val_interval=100, save_interval=60)
    cfg.model = segmentor(8, dropout=0.0)
    cfg.train_dataloader.dataset.pipeline = cfg.val_dataloader.dataset.pipeline
    # every colour in each batch: with two images the statistics, and with them the score, hang on the rounding of a CPU
    cfg.train_dataloader.update(batch_size=10)
    runner_of(cfg, folder).train()
    return recording(folder / 'iter_60.pth', folder / 'teacher.pth', model=cfg.model)


def recording(source: Path, target: Path, **recorded) -> Path:
    """Copy a checkpoint, with another config or other meta data in it."""
    checkpoint = torch.load(source, weights_only=False)
    if 'model' in recorded:
        recorded = {'cfg': Config(dict(model=recorded['model'])).pretty_text}
    checkpoint['meta'].update(recorded)
    torch.save(checkpoint, target)
    return target


@pytest.fixture
def said(caplog):
    """What is logged, by level; loggers of mmengine do not pass on what they log."""

    def listen(runner):
        runner.logger.addHandler(caplog.handler)
        runner.logger.setLevel(logging.INFO)
        runner.train()
        messages = [(record.levelname, record.getMessage()) for record in caplog.records]
        return {level: [text for name, text in messages if name == level] for level in ('INFO', 'WARNING')}

    return listen


def faults(log: dict[str, list[str]]) -> list[str]:
    return [text for text in log['WARNING'] if text.startswith('TEACHER CHECK: ')]


def refused(cfg: Config, work_dir: Path) -> str:
    """Message of the error with which a training is refused before anything is trained."""
    runner = runner_of(cfg, work_dir)
    with pytest.raises(ConfigError) as error:
        runner.train()
    assert runner.iter == 0
    return str(error.value)


def test_a_trained_teacher_passes_with_its_score_in_the_log(data, trained, tmp_path, said):
    log = said(runner_of(offline(data, trained), tmp_path))
    assert faults(log) == []
    (score,) = [text for text in log['INFO'] if text.startswith("Frozen role 'teacher' (model.roles.teacher.check")]
    assert f'checkpoint={str(trained)!r}' in score
    assert float(score.partition(', mIoU=')[2].partition(',')[0]) > 40


def test_the_check_changes_neither_the_training_nor_the_teacher(data, trained, tmp_path):
    weights = {}
    for check in ('off', 'error'):
        cfg = offline(data, trained, check, iterations=4, val_interval=2, workers=1, persistent=True)
        runner = runner_of(cfg, tmp_path / check)
        runner.train()
        weights[check] = runner.model.state_dict()
        teacher = runner.model.roles['teacher']
        assert not any(part.training for part in teacher.modules())
        assert not any(param.requires_grad for param in teacher.parameters())
        assert same(teacher.state_dict(), weights_of(trained))
    assert same(weights['off'], weights['error'])


def test_a_score_near_chance_stops_the_run(data, tmp_path):
    path = untrained(tmp_path / 'untrained.pth')
    message = refused(offline(data, path), tmp_path / 'work')
    assert message.startswith(
        f"model.roles.teacher.checkpoint={path!r}: on 8 validation images frozen role 'teacher' scores mIoU="
    )
    assert LIMITS in message
    assert "set teacher_check='warn' in the TeacherGuardHook of default_hooks" in message


def test_a_role_without_checkpoint_stops_the_run(data, tmp_path):
    message = refused(offline(data, None), tmp_path)
    assert message.startswith("frozen role 'teacher' has no checkpoint and would teach random numbers; ")
    assert 'model.roles.teacher.checkpoint' in message


def test_other_normalisation_stops_the_run(data, trained, tmp_path):
    message = refused(offline(data, trained, std=1.0), tmp_path)
    assert (
        f'model.roles.teacher.checkpoint={str(trained)!r}: it was trained with data_preprocessor.std='
        '(58.0, 58.0, 58.0), but here the role has (1.0, 1.0, 1.0)'
    ) in message
    assert 'data_preprocessor.mean' not in message and 'bgr_to_rgb' not in message


def test_other_classes_stop_the_run_and_are_not_scored(data, trained, tmp_path):
    names = [*NAMES[1:], NAMES[0]]
    path = recording(trained, tmp_path / 'other.pth', dataset_meta=dict(classes=names))
    message = refused(offline(data, path), tmp_path / 'work')
    assert f'it was trained on the 5 classes ({", ".join(map(repr, names))})' in message
    assert f'but the training data have the 5 classes ({", ".join(map(repr, NAMES))})' in message
    assert 'mIoU' not in message


def test_in_mode_warn_every_fault_is_told_and_the_training_runs(data, tmp_path, said):
    path = untrained(tmp_path / 'untrained.pth')
    recording_of_other = torch.load(path)
    recording_of_other['meta'] = dict(cfg=Config(dict(model=segmentor(std=1.0))).pretty_text)
    torch.save(recording_of_other, path)
    runner = runner_of(offline(data, path, 'warn'), tmp_path / 'work')
    first, second = faults(said(runner))
    assert 'data_preprocessor.std=(1.0, 1.0, 1.0), but here the role has (58.0, 58.0, 58.0)' in first
    assert LIMITS in second
    assert runner.iter == 1


@pytest.mark.parametrize(('check', 'expected'), [('warn', 1), ('off', 0)])
def test_a_random_teacher_is_warned_of_or_left_alone(data, tmp_path, said, check, expected):
    runner = runner_of(offline(data, None, check), tmp_path)
    assert len(faults(said(runner))) == expected
    assert runner.iter == 1


class Refuse(BaseMetric):
    """Lets nobody score."""

    def process(self, data_batch, data_samples):
        raise AssertionError('scored')

    def compute_metrics(self, results):
        return {}


def test_a_resumed_run_is_not_checked_again(data, tmp_path):
    runner_of(offline(data, None, 'off', iterations=2), tmp_path).train()
    cfg = offline(data, None, 'error', iterations=3, val_interval=10)
    runner = runner_of(cfg, tmp_path, resume=True, load_from=str(tmp_path / 'iter_2.pth'))
    runner.train()
    assert runner.iter == 3


def test_nothing_is_scored_without_a_frozen_role(data, tmp_path):
    cfg = role_config(data, iterations=1)
    cfg.train_cfg.val_begin = 10
    cfg.default_hooks.teacher_guard = dict(type='mmadm.TeacherGuardHook')
    runner_of(cfg, tmp_path, val_evaluator=[Refuse()]).train()
    cfg = stock_config(data, iterations=1)
    cfg.train_cfg.val_begin = 10
    cfg.default_hooks.teacher_guard = dict(type='mmadm.TeacherGuardHook')
    runner = runner_of(cfg, tmp_path / 'stock', val_evaluator=[Refuse()])
    runner.train()
    assert runner.iter == 1


def test_a_teacher_out_of_the_whole_models_checkpoint_needs_none_of_its_own(data, trained, tmp_path, said):
    whole = runner_of(offline(data, trained), tmp_path / 'first').model.state_dict()
    torch.save(dict(meta={}, state_dict=whole), tmp_path / 'whole.pth')
    runner = runner_of(offline(data, None), tmp_path / 'second', load_from=str(tmp_path / 'whole.pth'))
    log = said(runner)
    assert faults(log) == []
    assert any(text.startswith("Frozen role 'teacher' (load_from): ") for text in log['INFO'])


def test_without_validation_the_score_is_left_out(data, trained, tmp_path, said):
    cfg = offline(data, trained)
    for key in ('val_dataloader', 'val_evaluator', 'val_cfg'):
        cfg.pop(key)
    log = said(runner_of(cfg, tmp_path))
    assert "Frozen roles ['teacher'] are not scored: the config has no validation." in log['INFO']


def test_a_metric_without_known_chance_is_logged_but_not_judged(data, tmp_path, said):
    cfg = offline(data, untrained(tmp_path / 'untrained.pth'))
    cfg.val_evaluator = dict(type='IoUMetric', iou_metrics=['mDice'])
    log = said(runner_of(cfg, tmp_path / 'work'))
    assert any('mDice=' in text for text in log['INFO']) and faults(log) == []


@pytest.mark.parametrize('wrong', [dict(teacher_check='on'), dict(batches=0)])
def test_arguments_that_mean_nothing_are_refused(data, trained, tmp_path, wrong):
    cfg = offline(data, trained)
    cfg.default_hooks.teacher_guard.update(wrong)
    ((key, value),) = wrong.items()
    with pytest.raises(ConfigError, match=f'TeacherGuardHook.{key}={value!r}: '):
        runner_of(cfg, tmp_path)


def test_two_ranks_share_the_images_and_refuse_alike(tmp_path):
    write_colours(tmp_path / 'data')
    untrained(tmp_path / 'untrained.pth')
    spawn_two(refused_rank, tmp_path)
    first, second = ((tmp_path / f'rank{rank}.txt').read_text() for rank in range(2))
    assert first == second
    assert LIMITS in first and 'on 6 validation images' in first
