"""What every test shares. Fixtures of one package live in that package's own conftest.py."""

import os

os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch is imported: two workers share two cores

from pathlib import Path

import pytest
import torch
from golden import golden  # noqa: F401  a fixture for every test

torch.set_num_threads(1)


@pytest.fixture(scope='session')
def repo_root() -> Path:
    return Path(__file__).resolve().parents[1]
