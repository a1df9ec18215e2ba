"""What a person sees of a training, on a terminal and in a log file; and what a plain Runner is told to add."""

from __future__ import annotations

import io
import re

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from small_segmentors import segmentor
from small_trainings import role_config, runner_of, stock_config, write_images

from mmadm.cli.progress import ReadableLogHook, build_runner, terminal, watched
from mmadm.utils.errors import ConfigError


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('data') / 'images')


def shown(cfg, work_dir, console, **settings) -> Runner:
    runner = runner_of(cfg, work_dir, log_level='INFO', **settings)
    with watched(runner, console):
        runner.train()
    return runner


def plain_lines(screen: io.StringIO) -> list[str]:
    """What was written, without what moves the cursor and paints."""
    return [
        line.strip()
        for line in re.sub(r'\x1b\[[?\d;]*[A-Za-z]|\r', '\n', screen.getvalue()).splitlines()
        if line.strip()
    ]


def test_a_terminal_gets_a_line_for_each_interval_and_a_bar(data, tmp_path):
    cfg = role_config(data, iterations=6, val_interval=3, role_val=True)
    cfg.default_hooks.logger.interval = 2
    screen = io.StringIO()
    runner = shown(cfg, tmp_path, Console(file=screen, force_terminal=True, width=200))
    lines = plain_lines(screen)
    assert lines[0] == f'log: {runner.log_dir}'
    told = [line for line in lines if re.match(r'\d/6 \|', line)]
    assert [line[:3] for line in told] == ['2/6', '4/6', '6/6']
    hub = runner.message_hub.log_scalars
    last = {role: hub[f'train/{role}.loss'].mean(2) for role in ('student', 'teacher')}
    scores = {role: hub[f'val/{role}/mIoU'].data[0][0] for role in ('student', 'teacher')}
    assert told[-1] == (
        f'6/6 | loss student {last["student"]:.4g}, teacher {last["teacher"]:.4g} | '
        f'mIoU student {scores["student"]:.4g}, teacher {scores["teacher"]:.4g} | 0:00:00 left'
    )
    assert sum('scores after 3: mIoU student' in line for line in lines) == 1
    assert any('training' in line for line in lines) and not any('mmengine - INFO' in line for line in lines)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert told[-1] in log and 'Iter(train)' in log


@pytest.mark.parametrize('timed', [True, False])
def test_a_loop_by_epochs_counts_iterations_and_does_not_guess_the_time_left(data, tmp_path, timed):
    cfg = stock_config(data, infinite=False)
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=3)
    cfg.log_processor = dict(by_epoch=True)
    cfg.default_hooks.update(checkpoint=None, **({} if timed else dict(timer=None)))
    screen, seen = io.StringIO(), []

    class Spy(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            (hook,) = (hook for hook in runner.hooks if isinstance(hook, ReadableLogHook))
            seen.append(hook.bar.tasks[0].fields['told'])

    runner = runner_of(cfg, tmp_path, log_level='INFO')
    with watched(runner, Console(file=screen, force_terminal=True, width=200)):
        runner.register_hook(Spy(), priority='LOWEST')
        runner.train()
    lines = plain_lines(screen)
    assert [line[:3] for line in lines if re.match(r'\d/8 \|', line)] == ['3/8', '6/8', '8/8']
    assert [line.partition(':')[0] for line in lines if 'scores after' in line] == ['scores after 4', 'scores after 8']
    assert re.fullmatch(r'1/8, \d+:\d\d:\d\d left' if timed else '1/8', seen[0])
    assert seen[-1] == '8/8, 0:00:00 left'


def test_a_log_file_gets_the_same_lines(data, tmp_path, capsys):
    cfg = stock_config(data, iterations=2, val_interval=2)
    shown(cfg, tmp_path, None)
    out = capsys.readouterr().out
    assert re.search(r'mmengine - INFO - 2/2 \| loss [\d.]+ \| 0:00:00 left', out)
    assert re.search(r'scores after 2: mIoU [\d.]+\n', out)


def test_the_log_of_a_process_goes_where_it_went_before(data, tmp_path, capsys):
    cfg = stock_config(data, iterations=2, val_interval=9)
    with pytest.raises(ZeroDivisionError):
        runner = runner_of(cfg, tmp_path, log_level='INFO')
        with watched(runner, Console(file=io.StringIO(), force_terminal=True)):
            raise ZeroDivisionError
    capsys.readouterr()
    runner.logger.info('after')
    assert 'after' in capsys.readouterr().out


def test_no_terminal_here_and_the_environment_is_left_to_the_log_on_one(data, tmp_path, capsys):
    assert terminal() is None
    cfg = stock_config(data, iterations=2)
    cfg.work_dir = str(tmp_path)
    build_runner(cfg, Console(force_terminal=True, file=io.StringIO()))
    assert capsys.readouterr().out == ''
    assert 'System environment' in next(tmp_path.glob('*/*.log')).read_text()


def test_without_a_terminal_the_log_waits_until_nothing_is_wrong(data, tmp_path, capsys):
    cfg = role_config(data, iterations=2)
    cfg.work_dir, cfg.log_level = str(tmp_path / 'good'), 'INFO'
    build_runner(cfg, None).logger.info('goes on')
    out = capsys.readouterr().out
    assert out.index('System environment') < out.index('Hooks will be executed') < out.index('goes on')
    cfg.work_dir, cfg.param_scheduler = str(tmp_path / 'bad'), dict(studnet=[])
    with pytest.raises(ConfigError, match='param_scheduler'):
        build_runner(cfg, None)
    assert capsys.readouterr() == ('', '')
    assert 'System environment' in next((tmp_path / 'bad').glob('*/*.log')).read_text()


@pytest.mark.parametrize('guarded', [False, True])
def test_a_plain_runner_is_told_once_what_its_config_lacks(data, tmp_path, capsys, guarded):
    cfg = stock_config(data, iterations=2)
    cfg.model = dict(type='mmadm.Distillation', roles=dict(student=segmentor(4)))
    if guarded:
        cfg.default_hooks.guard = dict(type='mmadm.NonFiniteGuardHook')
    runner_of(cfg, tmp_path, log_level='WARNING').train()
    assert capsys.readouterr().out.count(
        'Start it with `mmadm train`, which adds what is missing, or add default_hooks=dict('
    ) == (not guarded)
