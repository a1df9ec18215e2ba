"""Inputs and outputs of published programs, for parity tests."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch


def _tensor(value):
    if isinstance(value, dict) and 'values' in value:
        return torch.tensor(value['values']).reshape(value['shape'])
    return torch.tensor(value) if isinstance(value, list) else value


@pytest.fixture(scope='session')
def golden():
    """Return a case by name, its tensors rebuilt."""
    folder = Path(__file__).parent / 'data'
    files = ('golden_losses.json', 'golden_more_losses.json')
    cases = {case['name']: case for file in files for case in json.loads((folder / file).read_text())}

    def case(name):
        parts = {
            key: {k: _tensor(v) for k, v in cases[name][key].items()} if isinstance(cases[name][key], dict) else {}
            for key in ('inputs', 'params', 'expected')
        }
        return SimpleNamespace(**parts)

    return case
