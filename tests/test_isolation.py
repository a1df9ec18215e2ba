"""What one test may leave to the next ones in its process."""

from __future__ import annotations

import pytest
from mmengine.logging import MMLogger


@pytest.mark.parametrize('turn', ['first', 'second'])
def test_a_logger_made_under_capsys_is_of_use_to_the_next_test(capsys, turn):
    """The first turn makes the logger, whose stdout is gone in the second."""
    MMLogger.get_instance('made_under_capsys').warning(f'the {turn} turn')
    assert capsys.readouterr().err == ''
