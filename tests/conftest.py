"""What every test shares. Fixtures of one package live in that package's own conftest.py."""

import gc
import logging
import os
import sys
import time

os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch is imported: two workers share two cores

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from golden import golden  # noqa: F401  a fixture for every test
from mmengine.logging import MMLogger
from plain_configs import leave_unformatted

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Keep what is imported out of the garbage collection that mmengine runs for each dataset: 0.2 seconds."""
    gc.freeze()


@pytest.fixture(scope='session')
def repo_root() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session', autouse=True)
def _unformatted_configs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        leave_unformatted(patch)
        yield


@pytest.fixture(scope='session', autouse=True)
def _names_of_runs() -> Iterator[None]:
    """Give each training of this process a name of its own.

    mmengine names them by the second in which they begin, and stores logs and curves under that name.
    """
    real, number = time.strftime, count()

    def named(form: str, *moment: time.struct_time) -> str:
        return real(form, *moment) + (f'{next(number):04}' if form == '%Y%m%d_%H%M%S' else '')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('time.strftime', named)
        yield


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What mmengine logs, by a logger of the test's own: a former one may have been silenced."""
    MMLogger.get_instance('of_the_test', log_level='INFO').addHandler(caplog.handler)
    yield caplog
    MMLogger._instance_dict.pop('of_the_test')


@pytest.fixture(autouse=True)
def _loggers_outlive_capsys() -> Iterator[None]:
    """Give mmengine's loggers, which are global, an open stream again.

    They keep the stdout under which they were made. That of ``capsys`` is closed after its test, and a later test's
    stderr would get ``--- Logging error ---`` for whatever mmengine warns of.
    """
    yield  # being autouse, it is torn down after capsys
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:  # and no file
                handler.stream = sys.stdout  # setStream would flush the closed one
