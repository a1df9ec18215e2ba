"""One HTML page about one run or many; it needs no network and no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mmadm.bench.boxes import SAME, SURE
from mmadm.utils.checkpoint import write_atomically

#: What a part of the page may show; what it has nothing for is left out
_SECTIONS = (
    'run', 'rows', 'gain', 'ablation', 'learning', 'losses', 'examples', 'confusion', 'observations', 'similarity',
    'classes', 'records',
)  # fmt: skip


def write_page(target: Path, title: str, note: str, tasks: Sequence[Mapping[str, Any]]) -> None:
    """Write the page.

    Args:
        target: HTML file to write.
        title: Headline.
        note: What a reader must know first.
        tasks: The sections of each part, see ``templates/report.html.j2``.
    """
    environment = Environment(
        loader=PackageLoader('mmadm.bench'), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template('report.html.j2').render(
        title=title, note=note, sure=SURE, same=SAME, tasks=[dict.fromkeys(_SECTIONS) | dict(task) for task in tasks]
    )
    write_atomically(page.encode(), target)
