"""Every results table of the docs is what the committed records give."""

import re
from pathlib import Path

from mmadm.bench.records import read_json_lines
from mmadm.bench.tables import markdown_tables

ROOT = Path(__file__).resolve().parents[1]
TABLE = re.compile(r'<!-- (benchmarks/\S+\.jsonl) -->\n((?:\|.*\n)+)')


def rendered(file):
    path = ROOT / file
    return markdown_tables(read_json_lines(path), read_json_lines(path.with_suffix('.cost.jsonl')))


def test_tables_come_from_the_records():
    pages = [(ROOT / page).read_text(encoding='utf-8') for page in ('docs/results.md', 'docs/results_appendix.md')]
    tables = [table for page in pages for table in TABLE.findall(page)]
    assert {file for file, _ in tables} == {
        f'benchmarks/{p.name}'
        for p in (ROOT / 'benchmarks').glob('*.jsonl')
        if '.cost' not in p.name and p.name != 'zoo.jsonl'  # which docs/networks.md counts
    }
    for file, table in tables:
        assert table == rendered(file), file


def test_the_table_of_costs_comes_from_the_records():
    """By method the ratio of a whole step to its parts, and to these and the method's own modules, of both suites."""
    costs = {
        suite: {record['method']: record for record in read_json_lines(ROOT / f'benchmarks/{suite}_small.cost.jsonl')}
        for suite in ('camvid', 'bccd')
    }

    def cells(record):
        times = [value for name, value in record['ratios'].items() if name.startswith('whole step / (')]
        return [f'{value:.3f}' for value in times] + ['-'] * (2 - len(times))

    _, table = (ROOT / 'docs/results.md').read_text(encoding='utf-8').split('| | CamVid | with own modules | BCCD |')
    rows = [line.strip('| ').split(' | ') for line in table.partition('\n\n')[0].splitlines()[2:]]
    assert {row[0] for row in rows} == {method for records in costs.values() for method in records}
    for method, *found in rows:
        expected = [cell for records in costs.values() for cell in cells(records.get(method, {'ratios': {}}))]
        assert found == expected, method
