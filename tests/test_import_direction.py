"""Imports go one way, and mmseg and mmdet stay behind the adapters, so that either can be missing."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LEAVES = {'structures', 'utils', 'version'}
# Part of mmadm -> other parts that it may import. '' is mmadm/__init__.py.
MAY_IMPORT = {
    '': {'utils', 'version'},
    'version': set(),
    'structures': {'utils'},
    'utils': LEAVES,
    'registry': set(),
    'functional': LEAVES,
    'losses': LEAVES | {'registry', 'functional'},
    'modules': LEAVES | {'registry', 'functional'},
    'adapters': LEAVES | {'registry'},
    'distillers': LEAVES | {'registry', 'functional', 'losses', 'modules'},
    'algorithms': LEAVES | {'registry', 'functional', 'losses', 'modules', 'adapters', 'distillers'},
    'datasets': LEAVES | {'registry'},
    'engine': LEAVES | {'registry', 'visualization'},
    'visualization': LEAVES,
}
CORE = set(MAY_IMPORT)
# the core imports none of these; nothing imports `cli` but `python -m mmadm`
MAY_IMPORT |= {'bench': CORE, 'demo': CORE | {'bench'}, 'cli': CORE | {'bench', 'demo'}, '__main__': {'cli'}}
TOOLBOXES = {'mmseg', 'mmdet', 'mmpretrain'}
FREE = {'adapters', 'datasets', 'bench', 'demo', 'cli'}
LOADERS = {'import_module', 'require', '__import__'}
SOURCES = sorted(Path(__file__).parents[1].glob('mmadm/**/*.py'))


def imports(tree: ast.Module, path: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield every imported dotted name, relative and dynamic imports included."""
    package = list(Path(path).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = '.'.join([*base, *filter(None, [node.module])])
            # `from mmadm import losses` imports a part as well
            yield from ((f'{module}.{alias.name}', node) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, 'id', getattr(node.func, 'attr', ''))
            if called in LOADERS and isinstance(node.args[0].value, str):
                yield node.args[0].value, node


def lazy_nodes(tree: ast.Module) -> set[ast.AST]:
    """Everything that importing the module does not run: function bodies and `if TYPE_CHECKING` blocks."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if function or (isinstance(node, ast.If) and ast.unparse(node.test).endswith('TYPE_CHECKING')):
            found.update(inner for statement in node.body for inner in ast.walk(statement))
    return found


def violations(path: str, source: str) -> list[str]:
    """Say what a file of mmadm imports that it must not.

    Args:
        path: Path from the root of the repository, such as ``mmadm/losses/kl.py``.
        source: The file's text.
    """
    tree = ast.parse(source)
    parts = Path(path).with_suffix('').parts
    own = '' if parts[1] == '__init__' else parts[1]
    if own not in MAY_IMPORT:
        return [f'{path}: {own!r} is no known part of mmadm; add it to MAY_IMPORT']
    lazy = lazy_nodes(tree)
    wrong = []
    for name, node in imports(tree, path):
        top, _, rest = name.partition('.')
        part = rest.partition('.')[0]
        where = f'{path}:{node.lineno}: imports {name}'
        if top == 'mmadm' and part in MAY_IMPORT and part not in MAY_IMPORT[own] | {own}:
            wrong.append(f'{where}, which is not below {own!r}')
        if top in TOOLBOXES and own not in FREE:
            wrong.append(f'{where}; only adapters, datasets, bench, demo and cli may')
        if top in TOOLBOXES and own == 'adapters' and node not in lazy:
            wrong.append(f'{where} before a model needs it; import it inside the function')
        if own == 'functional' and top not in {'mmadm', 'torch', *sys.stdlib_module_names}:
            wrong.append(f'{where}; functional is torch only')
    return wrong


def test_the_tree_was_found():
    found = {
        path.relative_to(SOURCES[0].parents[1]).parts[1].removesuffix('.py') for path in SOURCES if len(path.parts)
    }
    assert {'functional', 'losses', 'distillers', 'adapters', 'algorithms', 'engine', 'structures'} <= found


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: '/'.join(path.parts[path.parts.index('mmadm') :]))
def test_imports_follow_the_design(path, repo_root):
    assert violations(str(path.relative_to(repo_root)), path.read_text(encoding='utf-8')) == []


@pytest.mark.parametrize(
    ('path', 'source'),
    [
        ('mmadm/functional/a.py', 'from mmadm.losses import KLDivergence'),
        ('mmadm/functional/a.py', 'import numpy'),
        ('mmadm/losses/a.py', 'from ..distillers import adm'),
        ('mmadm/losses/a.py', 'from .. import modules'),
        ('mmadm/distillers/a.py', 'def f():\n    from mmadm.algorithms import Distillation'),
        ('mmadm/distillers/a.py', 'from mmadm import algorithms'),
        ('mmadm/structures.py', 'import mmadm.registry'),
        ('mmadm/utils/a.py', 'import importlib\nimportlib.import_module("mmadm.engine.loops")'),
        ('mmadm/engine/hooks/a.py', 'from ...algorithms import Distillation'),
        ('mmadm/visualization/a.py', 'from mmadm.functional import similarity_map'),
        ('mmadm/engine/a.py', 'def f():\n    import mmseg'),
        ('mmadm/utils/a.py', 'def f():\n    require("mmdet.models")'),
        ('mmadm/adapters/a.py', 'from mmdet.models import detectors'),
        ('mmadm/adapters/a.py', 'class A:\n    import mmseg'),
        ('mmadm/engine/a.py', 'from mmadm.bench.tables import table'),
        ('mmadm/datasets/a.py', 'def f():\n    from mmadm.demo import make_streets'),
        ('mmadm/bench/a.py', 'import mmadm.demo.streets'),
        ('mmadm/demo/a.py', 'from mmadm.cli import main'),
        ('mmadm/novelty/a.py', ''),
    ],
)
def test_a_violation_is_caught(path, source):
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ('path', 'source'),
    [
        ('mmadm/__init__.py', 'from mmadm.version import __version__'),
        ('mmadm/losses/a.py', 'from ..functional import kl\nfrom . import b\nimport math, torch'),
        ('mmadm/algorithms/a.py', 'from mmadm.adapters import build_adapter\nfrom mmadm.distillers import Distiller'),
        ('mmadm/adapters/a.py', 'class A:\n    def f(self):\n        from mmseg.models import EncoderDecoder'),
        ('mmadm/adapters/a.py', 'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mmdet'),
        ('mmadm/datasets/a.py', 'from mmseg.datasets import BaseSegDataset'),
        ('mmadm/engine/a.py', 'import mmengine\nfrom mmadm.registry import HOOKS'),
        ('mmadm/cli/a.py', 'from mmadm.demo.command import main\nfrom mmadm.bench.tables import table'),
    ],
)
def test_what_the_design_allows_passes(path, source):
    assert violations(path, source) == []


def run(script: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, '-c', script], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_but_datasets_imports_without_mmseg_and_mmdet(repo_root):
    script = """
import pkgutil, sys
from importlib import import_module
sys.modules.update(mmseg=None, mmdet=None, mmpretrain=None)  # importing either now fails as if it were not installed
import mmadm
for module in pkgutil.walk_packages(mmadm.__path__, 'mmadm.'):
    if not module.name.startswith(('mmadm.datasets.', 'mmadm.demo.streets_dataset')):
        import_module(module.name)
print(*sys.modules)
"""
    assert {'mmadm.algorithms.distillation', 'mmadm.adapters.two_stage'} <= set(run(script, repo_root).split())


def test_importing_mmadm_imports_neither_mmseg_nor_mmdet(repo_root):
    loaded = run('import sys, mmadm, mmadm.registry, mmadm.algorithms, mmadm.engine; print(*sys.modules)', repo_root)
    assert not TOOLBOXES & set(loaded.split())


def test_a_segmentation_pair_trains_without_mmdet(repo_root):
    script = """
import sys
sys.modules['mmdet'] = None
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmadm.registry import MODELS
init_default_scope('mmseg')
from mmseg.structures import SegDataSample
role = dict(type='mmseg.EncoderDecoder', data_preprocessor=dict(type='mmseg.SegDataPreProcessor', size=(32, 32)),
    backbone=dict(type='mmseg.ResNet', depth=18, base_channels=4, norm_cfg=dict(type='BN')),
    decode_head=dict(type='mmseg.FCNHead', in_channels=32, channels=4, num_classes=3, num_convs=1))
model = MODELS.build(dict(type='mmadm.Distillation', roles=dict(student=role, teacher=role),
    distillers=[dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits')]))
import mmadm.datasets
sample = SegDataSample(gt_sem_seg=PixelData(data=torch.ones(1, 32, 32, dtype=torch.long)))
data = model.data_preprocessor(dict(inputs=[torch.zeros(3, 32, 32)] * 2, data_samples=[sample] * 2), True)
total, _ = model.parse_losses(model(**data, mode='loss'))
total.backward()
print(sum(p.grad is not None for p in model.roles.parameters()) > 0)
"""
    assert run(script, repo_root).split()[-1] == 'True'
