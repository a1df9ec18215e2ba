"""Prints what the parts have found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from mmadm.bench.gpu_check.run import Outcome

COLOURS = {'ok': 'green', 'no time left': 'yellow'}


def tell(outcome: Outcome, console: Console) -> None:
    """Print a line for a part that has ended, and the end of its log if it crashed."""
    checks = [row for row in outcome.rows if row['passed'] is not None]
    passed = sum(row['passed'] for row in checks)
    colour = COLOURS.get(outcome.ended, 'red')
    console.print(
        f'[{colour}]{outcome.ended}[/] {outcome.title}: {passed} of {len(checks)} checks, {outcome.seconds:.0f} s',
        soft_wrap=True,
    )
    if outcome.ended == 'crashed':
        console.print(outcome.log[-800:], markup=False, soft_wrap=True, style='dim')


def table(outcomes: Iterable[Outcome], title: str, everything: bool = True) -> Table:
    """All findings, one a line.

    Args:
        outcomes: Of the parts.
        title: Above the table.
        everything: Whether checks that hold are listed, too.
    """
    made = Table(title=title, title_justify='left')
    for name in ('finding', 'value', 'at most', '', 'note'):
        made.add_column(name, justify='right' if name in ('value', 'at most') else 'left', overflow='fold')
    for outcome in outcomes:
        rows = [row for row in outcome.rows if everything or not row['passed']]
        if rows:
            made.add_section()
        for row in rows:
            limit = '' if row['limit'] is None else number(row['limit'])
            value = f'{number(row["value"])} {row["unit"]}'.strip()
            made.add_row(
                row['name'], value, limit, {True: 'ok', False: '[red]NO[/]', None: ''}[row['passed']], row['note']
            )
    return made


def number(value: Any) -> str:
    """A figure with four digits; words as they are."""
    return f'{value:.4g}' if isinstance(value, float) else str(value)
