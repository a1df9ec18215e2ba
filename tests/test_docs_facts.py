"""What the pages of docs/ and the README say outside of code blocks, as far as a machine can check it."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from mmengine.registry import Registry

import mmadm.registry
from mmadm.demo.streets import canvas
from mmadm.demo.streets_dataset import StreetsDataset
from mmadm.distillers.schedule import WeightSchedule

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
REGISTRIES = [part for part in vars(mmadm.registry).values() if isinstance(part, Registry) and part.scope == 'mmadm']


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r'^```.*?^```', '', page.read_text(encoding='utf-8'), flags=re.MULTILINE | re.DOTALL)


def tables_below(comment: str) -> list[list[list[str]]]:
    """Rows, without the header, of all tables that follow a comment."""
    found = []
    for page in PAGES:
        for table in re.findall(rf'<!-- {comment} -->\n\|.*\n\|.*\n((?:\|.*\n)+)', prose(page)):
            found.append([[cell.strip() for cell in row.strip('|').split(' | ')] for row in table.splitlines()])
    return found


def heading_anchors(page: Path) -> set[str]:
    """Anchors of a page's headings as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', prose(page), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def registered(name: str) -> Any:
    """What ``mmadm.<name>`` stands for in a config, or None."""
    found = (registry.get(f'mmadm.{name}') for registry in REGISTRIES)
    return next((kind for kind in found if kind is not None), None)


def constant_texts() -> str:
    """The constant parts of all strings of the package, a line each."""
    trees = [ast.parse(path.read_text(encoding='utf-8')) for path in (ROOT / 'mmadm').rglob('*.py')]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return '\n'.join(node.value for node in nodes if isinstance(node.value, str))


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)]+)\)', prose(page)):
        if target.startswith('http'):
            continue
        file, _, anchor = target.partition('#')
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        assert not anchor or anchor in heading_anchors(linked), target


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_names_in_the_text_exist(page):
    codes = re.findall(r'`([^`\n]+)`', prose(page))
    for code in codes:
        for path in re.findall(r'(?:^|\s)((?:mmadm|tests|docs|configs/_base_)/[\w/.-]*)', code):
            assert (ROOT / path).exists(), path
        for name in re.findall(r'(?<![/\w])mmadm\.([A-Z]\w*)', code):
            assert registered(name) or name == 'MyLoss', name


def test_option_tables_are_the_signatures():
    text = '\n'.join(prose(page) for page in PAGES)
    named = re.findall(r'<!-- options of mmadm\.(\w+) -->', text)
    assert 'ADM' in named
    for name in named:
        (rows,) = tables_below(rf'options of mmadm\.{name}')
        parameters = inspect.signature(registered(name)).parameters
        assert [row[:2] for row in rows] == [[f'`{key}`', f'`{p.default!r}`'] for key, p in parameters.items()]


def test_the_schedule_table_is_the_signature():
    (rows,) = tables_below('schedule')
    parameters = inspect.signature(WeightSchedule).parameters
    assert [[row[0], row[2]] for row in rows] == [[f'`{key}`', f'`{p.default}`'] for key, p in parameters.items()]
    for warmup in re.findall(r'`(\w+)`', rows[0][1]):
        WeightSchedule(warmup, length=1)


def test_the_classes_of_the_streets_are_named():
    ids = [value for key, value in vars(canvas).items() if re.fullmatch('[A-Z]+', key) and value < 19]
    names = ', '.join(StreetsDataset.METAINFO['classes'][number] for number in ids)
    assert f'occur: {names};' in (ROOT / 'docs/first_run.md').read_text(encoding='utf-8')


def test_quoted_messages_are_in_the_code():
    texts, tables = constant_texts(), tables_below('messages')
    assert len(tables) >= 3
    for message in (re.fullmatch(r'`([^`]+)`', row[0])[1] for rows in tables for row in rows):
        assert message in texts, message
