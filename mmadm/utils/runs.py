"""What finished and unfinished runs leave on disk: logged scalars, result records, and the table made of them."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def read_scalars(work_dir: Path) -> list[Record]:
    """Everything the logger wrote during a training, resumed ones joined.

    Args:
        work_dir: Work dir of a training; ``<timestamp>/vis_data/scalars.json`` in it are read in order of time.

    Returns:
        One dict per logged line with at least ``step``, sorted as written. What a killed process logged beyond the
        checkpoint that the next one resumed from is dropped, as is a line that was cut off.
    """
    entries: list[Record] = []
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        new = [entry for entry in read_json_lines(file) if entry.get('step')]
        if new:
            entries = [entry for entry in entries if entry['step'] < new[0]['step']] + new
    return entries


def read_json_lines(file: Path) -> list[Record]:
    """Dicts of a JSON-lines file; a missing file is empty, a torn line (a process was killed) is left out."""
    records = []
    for line in file.read_text(encoding='utf-8').splitlines() if file.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def training_entries(scalars: Iterable[Record]) -> list[Record]:
    """The logged training steps among ``scalars``."""
    return [entry for entry in scalars if 'loss' in entry]


def role_scores(metrics: Record, stock_role: str = 'student') -> dict[str, float]:
    """mIoU in percent by role.

    Args:
        metrics: Logged metrics, ``student/mIoU`` style from a role-wise validation or a bare ``mIoU``.
        stock_role: The role to which a bare ``mIoU`` belongs.
    """
    scores = {}
    for key, value in metrics.items():
        role, _, name = key.rpartition('/')
        if name == 'mIoU':
            scores[role or stock_role] = float(value)
    return scores


def validation_curves(scalars: Iterable[Record], stock_role: str = 'student') -> dict[str, list[tuple[int, float]]]:
    """``{role: [(iteration, mIoU), ...]}`` from the validations among ``scalars``."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for entry in scalars:
        for role, score in role_scores(entry, stock_role).items():
            curves.setdefault(role, []).append((int(entry['step']), score))
    return curves


def seconds_per_iteration(scalars: Iterable[Record]) -> float:
    """Median of the logged iteration times in seconds; the first, which includes the start, counts only if alone.

    Raises:
        ValueError: If no training step was logged.
    """
    times = [entry['time'] for entry in training_entries(scalars) if 'time' in entry]
    if not times:
        raise ValueError('no training step was logged: lower default_hooks.logger.interval below the iterations')
    return statistics.median(times[1:] or times)


def class_scores(log: str) -> dict[str, float]:
    """IoU in percent by class from the last table in a log, the only place where mmseg's ``IoUMetric`` leaves it."""
    table = log.rpartition('per class results')[2]
    rows = re.findall(r'^\|\s*(\S[^|]*?)\s*\|\s*([\d.]+|nan)\s*\|.*$', table, flags=re.MULTILINE)
    return {name: float(value) for name, value in rows if value != 'nan'}


@dataclass(frozen=True)
class Row:
    """One method of a results table; what was measured once per seed is a list.

    Attributes:
        method: Name of the method in its suite.
        scores: mIoU in percent by role, one per seed.
        times: Seconds per iteration.
        memory: Peak memory in MiB.
        parameters: Number of parameters by role.
    """

    method: str
    scores: dict[str, list[float]]
    times: list[float]
    memory: list[float]
    parameters: dict[str, int]

    @property
    def seeds(self) -> int:
        """Number of seeds behind the figures."""
        return len(self.times)


def scored_split(records: Iterable[Record]) -> str:
    """``test`` if every record has test scores, else ``val``."""
    return 'test' if all(record['test'] for record in records) else 'val'


def summarise(records: Iterable[Record]) -> list[Row]:
    """Join the seeds of each method, in the order in which the methods come.

    Args:
        records: Result records of one suite, as ``tools/benchmark.py run`` writes them.
    """
    records = list(records)
    split = scored_split(records)
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record['method'], []).append(record)
    return [
        Row(
            method,
            {role: [record[split][role] for record in group] for role in group[0][split]},
            [record['time'] for record in group],
            [record['memory'] for record in group],
            group[0]['parameters'],
        )
        for method, group in groups.items()
    ]


def spread(values: list[float], digits: int = 2) -> str:
    """``mean ± sample standard deviation``; the mean alone if there is one value; ``-`` if there is none."""
    if not values:
        return '-'
    mean = f'{statistics.mean(values):.{digits}f}'
    return mean if len(values) == 1 else f'{mean} ± {statistics.stdev(values):.{digits}f}'


def header(split: str) -> list[str]:
    """Column titles that go with :func:`cells`."""
    return [
        'method',
        f'student mIoU ({split})',
        f'teacher mIoU ({split})',
        'seeds',
        's / iteration',
        'peak memory (MiB)',
        'student parameters',
        'teacher parameters',
    ]


def cells(row: Row) -> list[str]:
    """One table row as text; a role that the method does not have is a dash."""
    sizes = [f'{row.parameters[role]:,}' if role in row.parameters else '-' for role in ('student', 'teacher')]
    return [
        row.method,
        spread(row.scores.get('student', [])),
        spread(row.scores.get('teacher', [])),
        str(row.seeds),
        f'{statistics.median(row.times):.3f}',
        f'{statistics.mean(row.memory):,.0f}',
        *sizes,
    ]


def markdown_table(rows: Iterable[Row], split: str) -> str:
    """The results as a Markdown table."""
    lines = [header(split), ['---'] * len(header(split)), *map(cells, rows)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines) + '\n'
