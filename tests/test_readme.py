"""Every results table in the README is what the committed records give."""

import json
import re
from pathlib import Path

from mmadm.utils.runs import markdown_table, scored_split, summarise

ROOT = Path(__file__).resolve().parents[1]
TABLE = re.compile(r'<!-- (benchmarks/\S+\.jsonl) -->\n((?:\|.*\n)+)')


def rendered(file):
    records = [json.loads(line) for line in (ROOT / file).read_text().splitlines()]
    return markdown_table(summarise(records), scored_split(records))


def test_tables_come_from_the_records():
    tables = TABLE.findall((ROOT / 'README.md').read_text())
    assert {file for file, _ in tables} == {f'benchmarks/{p.name}' for p in (ROOT / 'benchmarks').glob('*.jsonl')}
    for file, table in tables:
        assert table == rendered(file), file
