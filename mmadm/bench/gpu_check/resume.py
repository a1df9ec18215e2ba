"""Part: a run that is killed on the GPU and resumed ends with the bits of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmadm.bench.gpu_check.images import loader, write_images
from mmadm.bench.gpu_check.methods import method
from mmadm.bench.gpu_check.report import Report, Setting
from mmadm.registry import HOOKS
from mmadm.utils.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[3]
ITERATIONS, INTERVAL, KILLED_AT = 12, 4, 7
METHODS = ('adm', 'akd', 'plain')


@HOOKS.register_module()
class KillHook(Hook):
    """Kills its own process, as a full machine would.

    Args:
        iteration: Before which; a run that has been resumed goes on.
    """

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration
        self._resumed = False

    def before_train(self, runner: Runner) -> None:
        """See whether it has happened before."""
        self._resumed = runner.iter > 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Kill."""
        if runner.iter == self.iteration and not self._resumed:
            os.kill(os.getpid(), signal.SIGKILL)


def resumed(setting: Setting, report: Report) -> None:
    """Part: ``tools/train.py`` in deterministic mode; the methods run side by side."""
    images = write_images(setting.folder / 'images', 8, (64, 64))
    names = METHODS[: 1 if setting.tiny else None]
    for name in names:
        config(name, images).dump(str(setting.folder / f'{name}.py'))
        config(name, images, KILLED_AT).dump(str(setting.folder / f'{name}_killed.py'))
    started = {(name, end): start(setting.folder, name, end) for name in names for end in ('', '_killed')}
    for (name, end), process in started.items():
        code = process.wait(timeout=max(1.0, setting.seconds - report.seconds))
        if end:
            report.check(f'{name}: the run was killed', code == -signal.SIGKILL, f'exit code {code}')
        else:
            report.check(f'{name}: a run in deterministic mode ends', code == 0, said(setting.folder, name, code))
    again = {name: start(setting.folder, name, '_killed', '--resume') for name in names}
    for name, process in again.items():
        with report.attempt(f'{name}: resumed'):
            code = process.wait(timeout=max(1.0, setting.seconds - report.seconds))
            report.check(f'{name}: the resumed run ends', code == 0, said(setting.folder, f'{name}_killed', code))
            whole, broken = (
                read_checkpoint(setting.folder / f'{name}{end}/iter_{ITERATIONS}.pth')['state_dict']
                for end in ('', '_killed')
            )
            other = [key for key in whole if not torch.equal(whole[key], broken[key])]
            note = f'{len(other)} of {len(whole)} tensors differ, {other[:3]}' if other else f'{len(whole)} tensors'
            report.check(f'{name}: the resumed run ends with the same bits', not other, note)


def config(name: str, images: Path, killed_at: int | None = None) -> Config:
    """Config of a training with two workers, dropout, and mixed precision where there is a GPU."""
    model = method(name)
    model['roles'] = {role: {**cfg, '_scope_': 'mmseg'} for role, cfg in model['roles'].items()}
    trained = [role for role in model['roles'] if role not in model.get('frozen', ())]
    role = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
    hooks = [] if killed_at is None else [dict(type='mmadm.KillHook', iteration=killed_at)]
    return Config(
        dict(
            default_scope='mmseg',
            custom_imports=dict(imports=[__name__]),
            model=model,
            train_dataloader=loader(images, 2, 2, [dict(type='RandomFlip', prob=0.5)]),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=ITERATIONS),
            optim_wrapper=dict(constructor='mmadm.RoleOptimWrapperConstructor', **dict.fromkeys(trained, role)),
            param_scheduler=[dict(type='PolyLR', end=2 * ITERATIONS, by_epoch=False)],
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
                checkpoint=dict(type='mmadm.RoleCheckpointHook', by_epoch=False, interval=INTERVAL),
                guard=dict(type='mmadm.NonFiniteGuardHook'),
            ),
            # what adds the guards by itself must not refuse a teacher of random weights
            custom_hooks=[*hooks, dict(type='mmadm.TeacherGuardHook', teacher_check='off')],
            log_processor=dict(by_epoch=False, window_size=1),
            env_cfg=dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0)),
            randomness=dict(seed=3, deterministic=True),
        )
    )


def start(folder: Path, name: str, end: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a training as a user would; what it prints goes into a file."""
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(folder / f'{name}{end}.py')]
    command += ['--work-dir', str(folder / f'{name}{end}'), *arguments]
    with (folder / f'{name}{end}.log').open('ab') as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def said(folder: Path, name: str, code: int) -> str:
    """The last line of a run that failed."""
    lines = (folder / f'{name}.log').read_text(errors='replace').split('\n')
    return '' if code == 0 else f'exit code {code}: ' + next((line for line in reversed(lines) if line.strip()), '')
