"""Results tables: one row for each method, its seeds joined and compared with the plain student and with DML."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t

from mmadm.bench.records import Record, by_metric, deployed_role, record_scores, scored_split

#: Methods that every other one is compared with: what a column calls them, and how their names begin
BASELINES = {'plain': 'student', 'DML': 'dml'}


@dataclass(frozen=True)
class Row:
    """One method of a results table; what was measured once per seed is a list.

    Attributes:
        method: Name of the method in its suite.
        deploy: Role that is deployed.
        seeds: Seeds, in the order of the lists.
        scores: Percent by metric and role, one per seed; main metric first.
        times: Seconds per iteration.
        memory: Peak memory in MiB.
        parameters: Number of parameters by role.
        flops: Multiply-adds of a prediction by the deployed role; None if they were not counted.
        cost: Training step as a multiple of the plain student's, measured side by side; None if it was not.
    """

    method: str
    deploy: str
    seeds: list[int]
    scores: dict[str, dict[str, list[float]]]
    times: list[float]
    memory: list[float]
    parameters: dict[str, int]
    flops: float | None
    cost: float | None

    @property
    def main(self) -> list[float]:
        """Main score of the deployed role by seed."""
        return next(iter(self.scores.values()))[self.deploy]


def summarise(records: Iterable[Record], costs: Iterable[Record] = (), split: str | None = None) -> list[Row]:
    """Join the seeds of each method, in the order in which the methods come.

    Args:
        records: Result records of one suite and main metric, as ``tools/benchmark.py run`` writes them.
        costs: What ``tools/benchmark.py cost`` has measured, ``method`` and ``step``.
        split: ``val`` or ``test``; by default what :func:`~mmadm.bench.records.scored_split` says.
    """
    records = list(records)
    split = split or scored_split(records)
    steps = {cost['method']: float(cost['step']) for cost in costs}
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record['method'], []).append(record)
    return [
        Row(
            method,
            deployed_role(group[0]),
            [record['seed'] for record in group],
            {
                metric: {role: [record_scores(record, split)[metric][role] for record in group] for role in by_role}
                for metric, by_role in record_scores(group[0], split).items()
            },
            [record['time'] for record in group],
            [record['memory'] for record in group],
            group[0]['parameters'],
            group[0].get('flops'),
            steps.get(method),
        )
        for method, group in groups.items()
    ]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """``mean ± sample standard deviation``; the mean alone if there is one value; ``-`` if there is none.

    Args:
        values: The values.
        digits: After the point.
    """
    if not values:
        return '-'
    mean = f'{statistics.mean(values):.{digits}f}'
    return mean if len(values) == 1 else f'{mean} ± {statistics.stdev(values):.{digits}f}'


def baseline_of(method: str, methods: Iterable[str], begins: str) -> str | None:
    """The method that another one is compared with, of the same pair: for ``adm_det`` that is ``student_det``.

    Args:
        method: Any method but a plain network.
        methods: All methods.
        begins: How a baseline's name begins, ``student`` or ``dml``.

    Returns:
        The baseline whose ending fits best; None for itself, for plain networks, or if there is none.
    """
    plain = ('student', 'teacher')
    fitting = [m for m in methods if m.startswith(begins) and method.endswith(m.removeprefix(begins))]
    best = max(fitting, key=len, default=None)
    return None if best == method or method.startswith(plain) else best


def differences(row: Row, baseline: Row) -> list[float]:
    """How far a row's deployed role is above a baseline's, in points, for every seed that both have."""
    theirs = dict(zip(baseline.seeds, baseline.main, strict=True))
    return [mine - theirs[seed] for seed, mine in zip(row.seeds, row.main, strict=True) if seed in theirs]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the mean of paired differences, by Student's t; infinite with less than two."""
    if len(values) < 2:
        return -math.inf, math.inf
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values) - half, statistics.mean(values) + half


def paired(values: Sequence[float]) -> str:
    """Paired differences as text: their mean, and the 95 % interval of it if there are at least two."""
    if not values:
        return '-'
    low, high = interval(values)
    mean = f'{statistics.mean(values):+.1f}'
    return mean if math.isinf(low) else f'{mean} [{low:+.1f}, {high:+.1f}]'


def comparisons(rows: Sequence[Row]) -> dict[str, list[str]]:
    """By method: the text of :func:`paired` against each of ``BASELINES``; ``-`` where that says nothing."""
    by_name = {row.method: row for row in rows}
    found: dict[str, list[str]] = {}
    for row in rows:
        names = [baseline_of(row.method, by_name, begins) for begins in BASELINES.values()]
        found[row.method] = ['-' if name is None else paired(differences(row, by_name[name])) for name in names]
    return found


def header(split: str, metrics: Sequence[str]) -> list[str]:
    """Column titles that go with :func:`cells`."""
    return [
        'method',
        *(f'{metric} ({split})' for metric in metrics),
        *(f'to {name}' for name in BASELINES),
        'other roles',
        'seeds',
        'step / plain',
        's / iteration',
        'peak memory (MiB)',
        'GFLOPs',
        'parameters',
    ]


def cells(row: Row, compared: Mapping[str, Sequence[str]]) -> list[str]:
    """One table row as text.

    Args:
        row: The method.
        compared: What :func:`comparisons` returned.
    """
    metric = next(iter(row.scores))
    others = {role: values for role, values in row.scores[metric].items() if role != row.deploy}
    return [
        row.method,
        *(spread(by_role[row.deploy]) for by_role in row.scores.values()),
        *compared[row.method],
        ', '.join(f'{role} {spread(values)}' for role, values in others.items()) or '-',
        str(len(row.seeds)),
        '-' if row.cost is None else f'{row.cost:.2f}',
        f'{statistics.median(row.times):.3f}',
        f'{statistics.mean(row.memory):,.0f}',
        '-' if row.flops is None else f'{row.flops / 1e9:.3f}',
        f'{row.parameters[row.deploy]:,}',
    ]


def table(records: Iterable[Record], costs: Iterable[Record] = ()) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of the results of one main metric, see :func:`summarise`; no column without a value."""
    records = list(records)
    rows = summarise(records, costs)
    compared = comparisons(rows)
    titles = header(scored_split(records), list(rows[0].scores))
    columns = zip(titles, *(cells(row, compared) for row in rows), strict=True)
    titles, *lines = zip(*(column for column in columns if set(column[1:]) != {'-'}), strict=True)
    return list(titles), [list(line) for line in lines]


def markdown_tables(records: Iterable[Record], costs: Iterable[Record] = ()) -> str:
    """One Markdown table for each main metric."""
    costs, tables = list(costs), []
    for group in by_metric(records).values():
        titles, rows = table(group, costs)
        lines = [titles, ['---'] * len(titles), *rows]
        tables.append('\n'.join(f'| {" | ".join(line)} |' for line in lines) + '\n')
    return '\n'.join(tables)
