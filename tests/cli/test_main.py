"""The ``mmadm`` command: what it does when nobody reads its output."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import pytest

from mmadm.cli import main as command
from mmadm.utils.cli import quiet_pipe


@contextmanager
def reader_gone() -> Iterator[None]:
    """Standard output goes to a pipe that nobody reads; in the end Python flushes it."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, 'w') as stream, redirect_stdout(stream):
        yield


@pytest.mark.parametrize('words', [[], ['--version'], ['doctor'], *([verb, '--help'] for verb in command.VERBS)])
def test_without_a_reader_a_verb_ends_as_other_programs_do(capfd, words):
    with pytest.raises(SystemExit) as ended, reader_gone():
        command.main(words)
    assert ended.value.code == 141
    assert capfd.readouterr().err == ''


def test_without_a_reader_a_training_that_logs_ends(capfd):
    """A logger by itself tells of the error and goes on."""
    with pytest.raises(SystemExit) as ended, reader_gone(), quiet_pipe():
        handler = logging.StreamHandler(sys.stdout)
        handler.handle(logging.makeLogRecord(dict(msg='loss 1')))
        pytest.fail('went on')
    assert ended.value.code == 141
    assert capfd.readouterr().err == ''


def test_output_that_is_read_is_what_it_was(capsys):
    command.main(['--version'])
    assert capsys.readouterr().out.startswith('mmadm ')
