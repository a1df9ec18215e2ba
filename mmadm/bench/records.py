"""What finished and unfinished runs leave on disk: logged scalars and result records."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmadm.bench.metrics import role_scores
from mmadm.utils.checkpoint import write_atomically

Record = dict[str, Any]
Scores = Mapping[str, Mapping[str, float]]
Curves = dict[str, dict[str, list[tuple[int, float]]]]


def read_scalars(work_dir: Path) -> list[Record]:
    """Everything the logger wrote during a training, resumed ones joined.

    Args:
        work_dir: Work dir of a training; ``<timestamp>/vis_data/scalars.json`` in it are read in order of time.

    Returns:
        One dict per logged line with at least ``step``, sorted as written: the iteration, for validations of a loop by
        epochs the epoch. What a killed process logged beyond the checkpoint that the next one resumed from is dropped,
        as is a line that was cut off.
    """
    entries: list[Record] = []
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        new = _placed(read_json_lines(file))
        entries = entries[: _end_before(entries, new)] + new
    return entries


def _placed(entries: Iterable[Record]) -> list[Record]:
    """Entries with a step; a validation that an iteration loop logged by epoch, as mmengine does by default, has 0."""
    placed, step = [], 0
    for entry in entries:
        if 'step' in entry:
            step = entry['step'] or step
            placed.append({**entry, 'step': step})
    return [entry for entry in placed if entry['step']]


def _end_before(entries: Sequence[Record], new: Sequence[Record]) -> int:
    """How many entries stay before what a later process logged; trainings and validations may count differently."""
    first = {'loss' in entry: entry['step'] for entry in reversed(new)}
    beyond = (entry['step'] >= first.get('loss' in entry, float('inf')) for entry in entries)
    return next((index for index, gone in enumerate(beyond) if gone), len(entries))


def read_json_lines(file: Path) -> list[Record]:
    """Dicts of a JSON-lines file; a missing file is empty, a torn line (a process was killed) is left out."""
    records = []
    for line in file.read_text(encoding='utf-8').splitlines() if file.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def add_json_line(record: Record, file: Path) -> None:
    """Add a dict to a JSON-lines file; a full disk leaves the file as it was, and what a crash tore off stays apart."""
    text = file.read_text(encoding='utf-8') if file.is_file() else ''
    end = '' if text.endswith('\n') or not text else '\n'
    write_atomically(f'{text}{end}{json.dumps(record)}\n'.encode(), file)


def training_entries(scalars: Iterable[Record]) -> list[Record]:
    """The logged training steps among ``scalars``."""
    return [entry for entry in scalars if 'loss' in entry]


def validation_curves(scalars: Iterable[Record], stock_role: str = 'student') -> Curves:
    """``{metric: {role: [(iteration, percent), ...]}}`` from the validations among ``scalars``, main metric first."""
    curves: Curves = {}
    for entry in scalars:
        for metric, by_role in role_scores(entry, stock_role).items():
            for role, score in by_role.items():
                curves.setdefault(metric, {}).setdefault(role, []).append((int(entry['step']), score))
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


def score_fields(val: Scores, test: Scores) -> Record:
    """What a result record says about scores.

    Args:
        val: ``{metric: {role: percent}}`` of the last validation, main metric first.
        test: Those on the test split; empty if there is none.

    Returns:
        ``metric``, the main one's name; ``val`` and ``test``, its scores by role; ``further``, the same by split for
        every other metric.
    """
    main, *others = val
    return {
        'metric': main,
        'val': dict(val[main]),
        'test': dict(test.get(main, {})),
        'further': {name: {'val': dict(val[name]), 'test': dict(test.get(name, {}))} for name in others},
    }


def metric_of(record: Record) -> str:
    """Name of a record's main metric; records that were written before there were two say nothing."""
    return str(record.get('metric', 'mIoU'))


def record_scores(record: Record, split: str) -> Scores:
    """``{metric: {role: percent}}`` on a split, main metric first."""
    further = record.get('further', {})
    return {metric_of(record): record[split], **{name: by_split[split] for name, by_split in further.items()}}


def by_metric(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by main metric: what one table can hold."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(metric_of(record), []).append(record)
    return groups


def scored_split(records: Iterable[Record]) -> str:
    """``test`` if every record has test scores, else ``val``."""
    return 'test' if all(record['test'] for record in records) else 'val'


def deployed_role(record: Record) -> str:
    """The role that a run deploys; records that were written before this was noted say nothing."""
    roles = list(record['val'])
    return str(record.get('deploy', 'student' if 'student' in roles else roles[0]))
