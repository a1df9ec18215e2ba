"""What a part finds: figures, and checks that hold or do not."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch


@dataclass(frozen=True)
class Setting:
    """Where and how large a part runs.

    Attributes:
        device: The device that is checked; a CPU stands in for a GPU in tests.
        tiny: Whether everything is as small as a test wants it.
        seconds: Time that the part has.
        folder: Where the part may write.
        suite: Suite of the benchmark and its budget.
    """

    device: torch.device
    tiny: bool
    seconds: float
    folder: Path
    suite: tuple[str, str] = ('', '')


@dataclass(frozen=True)
class Row:
    """One finding.

    Attributes:
        name: What was looked at.
        value: A figure or a few words.
        unit: Of the figure.
        passed: Whether a check holds; None for a figure that nothing is promised of.
        limit: What the figure was to stay below.
        note: What else there is to say.
        error: Traceback of what went wrong.
    """

    name: str
    value: float | str
    unit: str = ''
    passed: bool | None = None
    limit: float | None = None
    note: str = ''
    error: str = ''


class Report:
    """Collects the findings of a part and writes them down one by one, so that a crash loses none.

    Args:
        path: JSON file; None keeps them in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.rows: list[Row] = []
        self._path = path
        self._began = perf_counter()

    def figure(
        self, name: str, value: float | str, unit: str = '', at_most: float | None = None, note: str = ''
    ) -> None:
        """Add a figure.

        Args:
            name: What was measured.
            value: The figure.
            unit: Its unit.
            at_most: Largest value that is right; None if every value is. NaN is never right.
            note: What else there is to say.
        """
        passed = None if at_most is None else float(value) <= at_most
        self._add(Row(name, value, unit, passed, at_most, note))

    def check(self, name: str, passed: bool, said: str = '') -> None:
        """Add something that holds or does not."""
        self._add(Row(name, said, passed=bool(passed)))

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Note what goes wrong in the block as a failed check and go on behind it."""
        try:
            yield
        except Exception as error:
            said = f'{type(error).__name__}: {error}'.splitlines()[0][:300]
            self._add(Row(name, said, passed=False, error=traceback.format_exc()[-4000:]))

    @property
    def seconds(self) -> float:
        """Time since the report was begun."""
        return perf_counter() - self._began

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        if self._path is not None:
            self._path.write_text(json.dumps([plain(row) for row in self.rows]))


def plain(row: Row) -> dict[str, Any]:
    """A row for a JSON file, which has no word for a number that is not finite."""
    found = asdict(row)
    if isinstance(row.value, float) and not math.isfinite(row.value):
        found['value'] = str(row.value)
    return found
