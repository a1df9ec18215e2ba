"""Every results table in the README and in docs/results.md is what the committed records give."""

import re
from pathlib import Path

from mmadm.utils.runs import read_json_lines
from mmadm.utils.tables import markdown_tables

ROOT = Path(__file__).resolve().parents[1]
TABLE = re.compile(r'<!-- (benchmarks/\S+\.jsonl) -->\n((?:\|.*\n)+)')


def rendered(file):
    path = ROOT / file
    return markdown_tables(read_json_lines(path), read_json_lines(path.with_suffix('.cost.jsonl')))


def test_tables_come_from_the_records():
    pages = [(ROOT / page).read_text(encoding='utf-8') for page in ('README.md', 'docs/results.md')]
    tables = [table for page in pages for table in TABLE.findall(page)]
    assert {file for file, _ in tables} == {
        f'benchmarks/{p.name}' for p in (ROOT / 'benchmarks').glob('*.jsonl') if '.cost' not in p.name
    }
    for file, table in tables:
        assert table == rendered(file), file
