"""``mmadm distill`` as the tests of the command line run it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmadm.cli import distill


def build(file: Path) -> torch.nn.Module:
    """The stock model of a config."""
    cfg = Config.fromfile(file)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


def refused(capsys, *words: str | Path) -> str:
    """The one sentence with which the command ends; nothing was written."""
    before = set(Path.cwd().iterdir())
    with pytest.raises(SystemExit) as ended:
        distill.main([str(word) for word in words])
    assert ended.value.code == 1
    assert set(Path.cwd().iterdir()) == before
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line
