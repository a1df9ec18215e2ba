"""Lets mmengine write configs without formatting them, which takes longer than a small training.

It formats the text of a config at the start of a training, for each writer of logs, and with every checkpoint.
"""

from __future__ import annotations

import ast
from typing import Any

import mmengine.config.config
import pytest
import yapf.yapflib.yapf_api


def as_it_is(text: str, **_: Any) -> tuple[str, bool]:
    """Stand for yapf's FormatCode, which refuses what is no Python, too."""
    ast.parse(text)
    return text, False


def leave_unformatted(patch: pytest.MonkeyPatch) -> None:
    """Let configs be written so until the patch is undone."""
    patch.setattr(yapf.yapflib.yapf_api, 'FormatCode', as_it_is)  # where the forks look for it each time
    patch.setattr(mmengine.config.config, 'FormatCode', as_it_is, raising=False)
