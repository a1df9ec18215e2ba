"""What :mod:`mmadm.bench.step_cost` has measured, as tables and as a record."""

from __future__ import annotations

from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from mmadm.bench.step_cost import Costs
from mmadm.bench.time_and_memory import WHOLE


def record(costs: Costs) -> dict[str, Any]:
    """What a results table and a reader of the JSON lines want to know."""
    return {
        'step': costs.ratios[0].value,  # to the plain step of the deployed role
        'ratios': {ratio.name: ratio.value for ratio in costs.ratios},
        'milliseconds': {row: median(times) for row, times in costs.milliseconds.items()},
        'memory': {row: peak / 2**20 for row, peak in costs.memory.items()},
        'rounds': len(costs.milliseconds[WHOLE]),
        'device': costs.device,
    }


def show(costs: Costs, console: Console) -> None:
    """Print the tables."""
    table = Table(title=f'One training step on {costs.device}: medians of {len(costs.milliseconds[WHOLE])} rounds')
    table.add_column('part')
    table.add_column('ms', justify='right')
    table.add_column('peak memory, MiB', justify='right')
    for row, times in costs.milliseconds.items():
        peak = f'{costs.memory[row] / 2**20:.1f}' if row in costs.memory else ''
        table.add_row(row, f'{median(times):.2f}', peak)
    console.print(table)
    table = Table(title='Ratios (of times: medians over the rounds)')
    for name in ('ratio', 'value', 'at most'):
        table.add_column(name, justify='left' if name == 'ratio' else 'right')
    for ratio in costs.ratios:
        table.add_row(ratio.name, f'{ratio.value:.3f}', '' if ratio.target is None else f'{ratio.target:.2f}')
    console.print(table)
