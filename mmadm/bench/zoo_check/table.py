"""Tables of which kinds of networks work, and why the others do not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

Record = dict[str, Any]
#: What is counted, and its heading
_COLUMNS = {
    ('feats', 'built'): 'built at `feats`',
    ('feats', 'refused'): 'refused',
    ('feats', 'error'): 'raw error',
    ('feats', 'slow'): 'too slow',
    ('logits', 'built'): 'built at `logits`',
    ('logits', 'error'): 'raw error',
    ('step', 'built'): 'trained a step',
    ('step', 'error'): 'raw error',
    ('step', 'stock'): 'made-up batch does not suit',
}


def newest(records: Iterable[Record]) -> list[Record]:
    """The last record of each config, in the order of the configs."""
    return [record for _, record in sorted({record['config']: record for record in records}.items())]


def counts(records: Sequence[Record]) -> str:
    """One row of a markdown table for each toolbox."""
    heads = ['toolbox', 'kinds', *_COLUMNS.values()]
    lines = [_row(heads), _row(['---', *['---:'] * (len(heads) - 1)])]
    for toolbox in dict.fromkeys(record['toolbox'] for record in records):
        mine = [record for record in records if record['toolbox'] == toolbox]
        found = Counter((at, record[at]['verdict']) for record in mine for at in ('feats', 'logits', 'step'))
        share = f' ({100 * found["feats", "built"] / len(mine):.0f} %)'
        cells = [f'{found[key]}{share if key == ("feats", "built") else ""}' for key in _COLUMNS]
        lines.append(_row([toolbox, str(len(mine)), *cells]))
    return '\n'.join(lines)


def reasons(records: Sequence[Record], at: str, verdicts: Sequence[str]) -> str:
    """A markdown table of the reasons why kinds do not work, the most frequent first.

    Args:
        records: Of the kinds.
        at: ``feats``, ``logits`` or ``step``.
        verdicts: Which ones are listed.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record[at]['verdict'] in verdicts:
            groups.setdefault((record[at]['verdict'], _sentence(record[at]['reason'])), []).append(record)
    lines = [_row(['kinds', 'such as', 'verdict', 'reason']), _row(['---:', '---', '---', '---'])]
    for (verdict, reason), members in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines.append(_row([str(len(members)), f'`{members[0]["config"]}`', verdict, reason]))
    return '\n'.join(lines)


def markdown(records: Sequence[Record]) -> str:
    """The counts, and every kind that is not built at ``feats`` or does not train, with its reason."""
    parts = [counts(records)]
    not_built = ('refused', 'error', 'slow')
    for heading, at, verdicts in (
        ('Not built at `feats`', 'feats', not_built),
        ('No `logits`', 'logits', not_built),
        ('No training step', 'step', ('refused', 'error', 'stock')),
    ):
        if any(record[at]['verdict'] in verdicts for record in records):
            parts.append(f'### {heading}\n\n{reasons(records, at, verdicts)}')
    return '\n\n'.join(parts) + '\n'


def _sentence(reason: str) -> str:
    """A reason as one line, without the name of the role."""
    text = re.sub(r"role '\w+'|model\.roles\.\w+", 'role', ' '.join(reason.split()))
    return text.replace('|', '\\|')


def _row(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'
