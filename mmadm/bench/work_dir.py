"""What one training left in its work dir: config, log and checkpoints, whoever started it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmadm.bench.records import Record, read_scalars, training_entries
from mmadm.utils.checkpoint import newest_checkpoint
from mmadm.utils.config import read_config
from mmadm.utils.errors import ConfigError

_LOG = '*/vis_data/scalars.json'


@dataclass(frozen=True)
class WorkDir:
    """A training, finished or not, resumed or not.

    Attributes:
        path: Its work dir.
        cfg: The config with which it was last started.
        text: The same, as the training wrote it.
        scalars: What it logged, see :func:`~mmadm.bench.records.read_scalars`.
        starts: Names of the folders of its processes, which are times, in order.
    """

    path: Path
    cfg: Config
    text: str
    scalars: list[Record]
    starts: list[str]

    @property
    def title(self) -> str:
        """Name of its config."""
        configs = sorted(self.path.glob('*.py'), key=lambda file: file.stat().st_mtime_ns)
        return configs[-1].stem if configs else self.path.resolve().name

    @property
    def roles(self) -> dict[str, Any]:
        """Configs of the roles by name; of a stock model, the model itself as ``model``."""
        return dict(self.cfg.model.get('roles') or {'model': self.cfg.model})

    @property
    def deploy(self) -> str:
        """The role that is deployed."""
        return self.cfg.model.get('deploy', 'student') if 'roles' in self.cfg.model else 'model'

    @property
    def unit(self) -> str:
        """What its loop counts: ``iteration`` or ``epoch``."""
        loop = self.cfg.get('train_cfg') or {}
        return 'epoch' if 'max_epochs' in loop or loop.get('by_epoch') else 'iteration'

    @property
    def length(self) -> int | None:
        """Planned iterations or epochs; None if its config does not say."""
        return (self.cfg.get('train_cfg') or {}).get('max_epochs' if self.unit == 'epoch' else 'max_iters')

    @property
    def done(self) -> int:
        """Iterations, or whole epochs, that log or checkpoints tell of."""
        name = 'epoch' if self.unit == 'epoch' else 'iter'
        saved = [
            int(found[1]) for file in self.path.glob('*.pth') if (found := re.fullmatch(rf'{name}_(\d+)', file.stem))
        ]
        trained = training_entries(self.scalars)
        logged = trained[-1]['step'] if trained else 0
        if self.unit == 'epoch':
            logged = (trained[-1].get('epoch', 1) if trained else 1) - 1
        return max([logged, *saved])

    @property
    def checkpoint(self) -> Path | None:
        """Newest full checkpoint, also one without optimiser; CheckpointError if none can be read."""
        return newest_checkpoint(self.path, ('meta', 'state_dict'))

    @cached_property
    def log(self) -> str:
        """What its processes told, in order."""
        files = (file for start in self.starts for file in sorted((self.path / start).glob('*.log')))
        return ''.join(file.read_text(encoding='utf-8', errors='replace') for file in files)


def open_work_dir(path: Path) -> WorkDir:
    """Read a work dir.

    Args:
        path: Folder that ``mmadm train``, ``tools/train.py`` or another Runner wrote to.

    Raises:
        ConfigError: If it is none; says what would be right.
    """
    if not path.is_dir():
        raise ConfigError(f'WORK_DIR={path}: no such folder; give the work dir of a training')
    if (path / 'results.jsonl').is_file() or any(path.glob('*/seed*/')):
        raise ConfigError(f'WORK_DIR={path}: holds the runs of a benchmark; use: mmadm benchmark report {path}')
    logs = [log for log in sorted(path.glob(_LOG)) if log.stat().st_size]
    if not logs:
        raise ConfigError(f'WORK_DIR={path}: {_why_no_log(path)}')
    scalars = read_scalars(path)
    if not training_entries(scalars):
        raise ConfigError(
            f'WORK_DIR={path}: its log holds no training step; lower default_hooks.logger.interval below the iterations'
        )
    file = next(
        (file for file in (logs[-1].with_name('config.py'), *sorted(path.glob('*.py'))) if file.is_file()), None
    )
    if file is None:
        raise ConfigError(f'WORK_DIR={path}: holds no config of its training')
    return WorkDir(path, _read(file), file.read_text(encoding='utf-8'), scalars, [log.parents[1].name for log in logs])


def started(name: str) -> str:
    """The time that a folder of a process is called by, as people write it."""
    try:
        return f'{datetime.strptime(name, "%Y%m%d_%H%M%S"):%Y-%m-%d %H:%M}'
    except ValueError:
        return name


def _why_no_log(path: Path) -> str:
    above = [folder for folder in (path.parent, path.parent.parent) if any(folder.glob(_LOG))]
    if above:
        return f'is a part of a work dir; give {above[0]}'
    several = sorted({log.parents[2] for log in path.glob(f'*/{_LOG}')})
    if several:
        return f'holds {len(several)} work dirs; give one of them, such as {several[0]}'
    return (
        f'holds no log of a training ({_LOG}), which visualizer.vis_backends=[dict(type="LocalVisBackend")] writes at '
        'every default_hooks.logger.interval'
    )


def _read(file: Path) -> Config:
    try:
        cfg = read_config(file)
    except Exception as error:  # it runs, and imports what custom_imports names
        raise ConfigError(f'{file}: cannot be read as a config ({type(error).__name__}: {error})') from error
    if 'model' not in cfg:
        raise ConfigError(f'{file}: has no `model`, so there is no report about it')
    return cfg
