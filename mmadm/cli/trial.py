"""A config is tried before it is written: read as it will stand there, and its model built."""

from __future__ import annotations

import os
import re
import tempfile
from copy import deepcopy
from pathlib import Path

from mmengine.config import Config
from torch import nn

from mmadm.registry import MODELS
from mmadm.utils.scope import use_scope


def read_unwritten(text: str, name: str, folder: Path, beside: str | None) -> Config:
    """Read a config that is not written yet.

    Args:
        text: Its text; `_base_` is absolute, ``pkg::path`` or the name of ``beside``.
        name: Name of its file.
        folder: Where it will lie.
        beside: Text of the base that will lie beside it, if there is one.
    """
    with tempfile.TemporaryDirectory() as trial:
        if beside is not None:
            (Path(trial) / f'{Path(name).stem}_base.py').write_text(beside, encoding='utf-8')
        file = Path(trial) / name
        # made shorter, as the folder need not be there yet
        there = re.sub(r"{{fileDirname}}/([^']*)", lambda found: os.path.normpath(folder.resolve() / found[1]), text)
        file.write_text(there, encoding='utf-8')
        return Config.fromfile(file)


def build_model(cfg: Config) -> nn.Module:
    """Build a config's model, with the checkpoints that are files; URLs are loaded when training starts.

    Raises:
        ConfigError: If the model cannot be built.
        CheckpointError: If a checkpoint does not fit.
    """
    use_scope(cfg.get('default_scope'))
    model = deepcopy(cfg.model)
    for role in model.get('roles', {}).values():
        if '://' in str(role.get('checkpoint')):
            role.pop('checkpoint')
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(model)
