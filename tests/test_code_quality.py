"""The house rules that a machine can check."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ('mmadm', 'tools', 'tests', 'configs')
SOURCES = [ROOT / 'setup.py', *(path for folder in FOLDERS for path in sorted(ROOT.glob(f'{folder}/**/*.py')))]
MAX_FILE, MAX_FUNCTION, MAX_DEPTH = 299, 49, 2


@pytest.mark.parametrize('command', ['ruff check --output-format concise', 'ruff format --check', 'mypy'])
def test_checker_passes(command):
    arguments = [sys.executable, '-m', *command.split()]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def long_parts(path: str, source: str) -> list[str]:
    """Files and functions above the limits, docstrings included."""
    lines = len(source.splitlines())
    found = [f'{path}: {lines} lines'] if lines > MAX_FILE else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            found += [f'{path}:{node.lineno}: {node.name} has {length} lines'] if length > MAX_FUNCTION else []
    return found


def forbidden_calls(path: str, source: str) -> list[str]:
    """Calls that only distillers may make (detach), or nobody."""
    detaches = set() if Path(path).parts[1] == 'distillers' else {'detach', 'detach_'}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in detaches:
            found.append(f'{path}:{node.lineno}: {node.attr}')
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') in {'eval', 'exec', 'setattr', 'delattr'}:
            found.append(f'{path}:{node.lineno}: {node.func.id}')
    return sorted(found)


def class_bases(source: str) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            yield node.name, [ast.unparse(base).rpartition('.')[2].partition('[')[0] for base in node.bases]


def deep_classes(bases: dict[str, list[str]]) -> list[str]:
    """Classes with more than two of our own in one line of descent, themselves included."""

    def depth(name: str) -> int:
        return 1 + max(map(depth, bases[name]), default=0) if name in bases else 0

    return [name for name in bases if depth(name) > MAX_DEPTH]


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    assert long_parts(str(path.relative_to(ROOT)), path.read_text(encoding='utf-8')) == []


def test_only_distillers_detach_and_nothing_is_patched():
    package = [path for path in SOURCES if path.is_relative_to(ROOT / 'mmadm')]
    assert package
    assert [
        call for path in package for call in forbidden_calls(str(path.relative_to(ROOT)), path.read_text('utf-8'))
    ] == []


def test_inheritance_is_flat():
    package = [path for path in SOURCES if path.is_relative_to(ROOT / 'mmadm')]
    bases = dict(item for path in package for item in class_bases(path.read_text(encoding='utf-8')))
    assert 'Distillation' in bases
    assert deep_classes(bases) == []


def test_the_limits_are_sharp():
    function = 'def f():\n' + '    pass\n' * 49
    assert long_parts('a.py', function) == ['a.py:1: f has 50 lines']
    assert long_parts('a.py', function.replace('    pass\n', '', 1)) == []
    assert long_parts('a.py', '\n' * 300) == ['a.py: 300 lines']
    assert long_parts('a.py', '\n' * 299) == []


def test_forbidden_calls_are_caught():
    source = 'a = x.detach()\nsetattr(a, "b", 1)\nmodel.eval()\n'
    assert forbidden_calls('mmadm/losses/a.py', source) == [
        'mmadm/losses/a.py:1: detach',
        'mmadm/losses/a.py:2: setattr',
    ]
    assert forbidden_calls('mmadm/distillers/a.py', source) == ['mmadm/distillers/a.py:2: setattr']


def test_deep_inheritance_is_caught():
    chain = 'class A(nn.Module): ...\nclass B(A): ...\nclass C(Mixin, B): ...\nclass D(A, Generic[T]): ...'
    assert deep_classes(dict(class_bases(chain))) == ['C']
