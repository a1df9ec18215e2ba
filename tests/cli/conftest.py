"""Configs that ``mmadm distill`` starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from distill_command import build
from stock_trainings import write_data, write_stock_config


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Narrow training configs of a segmentor and a detector, as student and as teacher with weights."""
    folder = tmp_path_factory.mktemp('distill')
    data = write_data(folder / 'data')
    for kind in ('pspnet', 'retinanet'):
        for role, width in (('student', 8), ('teacher', 12)):
            write_stock_config(kind, width, data, folder / f'{kind}_{role}.py')
        model = build(folder / f'{kind}_teacher.py')
        torch.save(dict(meta={}, state_dict=model.state_dict()), folder / f'{kind}.pth')
    torch.save(dict(meta={}, state_dict=build(folder / 'pspnet_student.py').state_dict()), folder / 'pspnet_same.pth')
    return folder


@pytest.fixture
def here(folder, tmp_path, monkeypatch) -> Path:
    """An empty folder to write to, from where the configs are one folder away."""
    work = folder / tmp_path.name
    work.mkdir()
    monkeypatch.chdir(work)
    return work
