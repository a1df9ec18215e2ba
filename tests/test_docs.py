"""Every code block of docs/*.md and README.md is checked, in the order of its page. No kind of block is skipped.

- ``python``, a config (its first line is ``# configs/...py``; or it assigns ``_base_``): is loaded from that path. The
  model, narrowed by shrink.py where it is a stock one of MMSegmentation or MMDetection, makes a training step that
  moves every learner; hooks, loops and transforms exist and take their options.
- ``python``, a file (its first line is ``# mmadm/...py`` or ``# tests/...py``): becomes that module; its tests are run;
  the house rules hold for it.
- ``python``, anything else: is run in one namespace for the page, in an empty folder with the repository's configs.
- ``python mmrazor``: is parsed; each of its keys is in the tables of its page.
- ``bash``: each command is parsed: ``mmadm`` and tools by their own parser, with their files and overridden keys,
  ``make`` by its targets, ``pip`` by the extras of setup.py, ``export`` by what the configs read. ``tools/export.py``
  is run, on a checkpoint that this test writes.

Anything else fails.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import small_detectors
import small_segmentors
import torch
from markdown_it import MarkdownIt
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import HOOKS, LOOPS, TRANSFORMS, DefaultScope
from small_roles import small
from small_trainings import load_tool
from test_code_quality import forbidden_calls
from test_import_direction import violations
from test_zoo import OWN

from mmadm.bench.suites import SUITES
from mmadm.cli.main import VERBS
from mmadm.cli.methods_table import METHODS
from mmadm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from mmadm.utils.checkpoint import write_checkpoint
from mmadm.utils.config import resolve_config, role_model_cfg, without_pretrained

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
SETUP = load_tool('../setup')
#: keys of mmrazor below which so many levels of names are the user's own
OWN_NAMES = dict(
    student_recorders=1, teacher_recorders=1, distill_losses=1, connectors=1, loss_forward_mappings=2
)  # fmt: skip


class Page:
    """One page in a folder where its files and commands find what they name."""

    def __init__(self, path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.folder, self.monkeypatch = path, folder, monkeypatch
        self.namespace: dict[str, Any] = {'__name__': path.stem}
        self.text = path.read_text(encoding='utf-8')

    def check(self) -> int:
        """Check all blocks in order; returns their number."""
        checked = 0
        for block in MarkdownIt().parse(self.text):
            assert block.type != 'code_block', f'{self.path.name}: an indented block of unknown kind: {block.content}'
            if block.type != 'fence':
                continue
            checks = {'python': self.python, 'python mmrazor': self.mmrazor, 'bash': self.bash}
            assert block.info in checks, f'{self.path.name}:{block.map[0]}: unknown kind of block {block.info!r}'
            checks[block.info](block.content, block.map[0] + 1)
            checked += 1
        return checked

    def python(self, source: str, line: int) -> None:
        """A config, a file or a part of a program."""
        tree = ast.parse(source)
        assigned = {ast.unparse(t) for node in tree.body if isinstance(node, ast.Assign) for t in node.targets}
        named = re.match(r'# (\S+\.py)\n', source)
        inherits = '_base_' in assigned and not named
        if inherits or (named and named[1].startswith('configs/')):
            file = self.folder / (named[1] if named else f'configs/{OWN}/line{line}.py')
            assert file.parent.name == OWN, f'{self.path.name}:{line}: a config of the reader lies in configs/{OWN}'
            file.write_text(source)
            check_config(file)
        elif named:
            self.module(named[1], source)
        else:
            exec(compile(source, f'{self.path.name}:{line}', 'exec'), self.namespace)

    def module(self, path: str, source: str) -> None:
        """A file of the repository, which later blocks can import."""
        assert not (ROOT / path).exists(), f'{path} is there already: name another file'
        for command in (['check', '--ignore', 'I001'], ['format', '--check']):
            # without I001: ruff sorts by which modules exist, and this one does not
            ruff = [sys.executable, '-m', 'ruff', *command, '--stdin-filename', str(ROOT / path), '-']
            done = subprocess.run(ruff, input=source, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f'{path}: {done.stdout}{done.stderr}'
        if path.startswith('mmadm/'):
            assert violations(path, source) == [] == forbidden_calls(path, source)
        module = ModuleType(path.removesuffix('.py').replace('/', '.'))
        self.monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(source, path, 'exec'), module.__dict__)
        tests = [value for name, value in vars(module).items() if name.startswith('test_')]
        assert tests or not path.startswith('tests/')
        for test in tests:
            test()

    def mmrazor(self, source: str, line: int) -> None:
        """A config of mmrazor, which cannot be built here: the page has to say what becomes of each key."""
        rows = [row for row in self.text.splitlines() if row.startswith('|')]
        explained = set(re.findall(r'\w+', ' '.join(code for row in rows for code in re.findall(r'`([^`]+)`', row))))
        for node in ast.parse(source).body:
            assert isinstance(node, ast.Assign)
            assert {target.id for target in node.targets} | keys_of(node.value) <= explained, (
                f'{self.path.name}:{line}: not in the tables: '
                f'{sorted(({t.id for t in node.targets} | keys_of(node.value)) - explained)}'
            )

    def bash(self, source: str, line: int) -> None:
        """Commands; what stands behind ``#`` is a comment."""
        text = re.sub(r'(^|\s)#[^\n]*', '', source).replace('\\\n', ' ')
        for command in re.split(r'\n|&&', text):
            if command.strip():
                self.command(shlex.split(command), f'{self.path.name}:{line}: {command.strip()}')

    def command(self, words: list[str], where: str) -> None:
        """One command."""
        for word in words:
            if re.fullmatch(r'(configs|tools|constraints)[\w./-]*\.(py|sh|txt)', word):
                assert (self.folder / word).is_file() or (ROOT / word).is_file(), f'{where}: no file {word}'
        match words:
            case ['python', tool, *arguments] if tool.startswith('tools/'):
                self.tool(Path(tool).stem, arguments, where)
            case ['bash', 'tools/dist_train.sh', config, gpus, *arguments]:
                assert gpus.isdigit(), where
                self.tool('train', [config, *arguments], where)
            case ['bash', 'tools/slurm_train.sh', _, _, config, *arguments]:
                self.tool('train', [config, *arguments], where)
            case ['mmadm', verb, *arguments] if verb in VERBS:
                self.tool(verb, arguments, where)
            case ['make', *targets]:
                known = re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
                assert {word for word in targets if '=' not in word} <= set(known), where
            case ['pip', 'install', *arguments]:
                extras = re.findall(r'\.\[([\w,]+)\]', ' '.join(arguments))
                assert extras and set(','.join(extras).split(',')) <= set(SETUP.EXTRAS), where
            case ['source', activate]:
                folder = activate.removesuffix('/bin/activate')
                assert f':= {folder}\n' in (ROOT / 'Makefile').read_text(), where
            case ['export', assignment]:
                name = assignment.partition('=')[0]
                assert any(f'${name}' in file.read_text() for file in ROOT.glob('configs/_base_/*/*.py')), where
            case _:
                pytest.fail(f'{where}: nobody knows how to check this command')

    def tool(self, name: str, arguments: list[str], where: str) -> None:
        """A tool's command line; the overridden keys exist."""
        tool = import_module(VERBS[name][0]) if name in VERBS else load_tool(name)
        if not arguments:
            return
        args = tool.parse_args(arguments)
        if name == 'export' and not args.tokens:
            write_trained(self.folder / args.checkpoint, args.role)
            tool.main(arguments)
        if name == 'distill':
            assert args.method in METHODS, where
            for stock in (args.student, args.teacher):
                assert stock is None or '::' not in stock or resolve_config(stock), where
        configs = [args.config] if getattr(args, 'config', None) else []
        if getattr(args, 'suite', None):
            suite = SUITES[args.suite]
            assert set(args.methods or ()) <= set(suite), f'{where}: {args.suite} has only {sorted(suite)}'
            configs = [suite[method] for method in args.methods or suite]
        overridden = getattr(args, 'cfg_options', None) or []
        for config in configs if overridden else []:
            cfg = Config.fromfile(config, format_python_code=False)
            for option in overridden:
                assert has_key(cfg, option.partition('=')[0]), f'{where}: {config} has no key {option}'


def keys_of(node: ast.expr, own_names: int = 0) -> set[str]:
    """Keys of a config of ``dict(...)``, without the names that its author chose."""
    found: set[str] = set()
    for keyword in node.keywords if isinstance(node, ast.Call) else []:
        found |= {keyword.arg} if own_names == 0 else set()
        found |= keys_of(keyword.value, own_names - 1 if own_names else OWN_NAMES.get(keyword.arg, 0))
    return found


def has_key(cfg: Any, dotted: str) -> bool:
    """Whether a config has a key, or its parent is of a type that takes it."""
    *parents, last = dotted.split('.')
    for key in parents:
        cfg = cfg[int(key) if key.isdigit() else key]
    kind = MODELS.get(cfg.type) if str(cfg.get('type', '')).startswith('mmadm.') else None
    return last in cfg or (kind is not None and last in inspect.signature(kind).parameters)


def check_config(file: Path) -> None:
    """Build what a config says, small, and make one step."""
    cfg = Config.fromfile(file, format_python_code=False)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmseg')):
        for step in [step for part in ('train', 'val', 'test') for step in pipeline(cfg, part)]:
            TRANSFORMS.build(step)
        for hook in [*cfg.get('default_hooks', {}).values(), *cfg.get('custom_hooks', [])]:
            # some stock hooks want a running Runner's visualizer
            options = {key: value for key, value in hook.items() if key != 'type'}
            with HOOKS.switch_scope_and_registry(None) as registry:
                inspect.signature(registry.get(hook.type)).bind(**options)
        for part in ('train_cfg', 'val_cfg', 'test_cfg'):
            assert part not in cfg or LOOPS.get(cfg[part].type), cfg[part]
        if 'roles' not in cfg.get('model', {}):  # a part of another config on the same page
            return
        for width, (name, role) in zip((4, 8, 4, 8), cfg.model.roles.items(), strict=False):
            if 'like' not in role:
                stock = '::' in str(role.get('cfg'))
                cfg.model.roles[name] = small(role, width) if stock else without_pretrained(role_model_cfg(role))
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
        wrapper = cfg.optim_wrapper.to_dict()
        constructor = wrapper.pop('constructor', 'DefaultOptimWrapperConstructor')
        optimiser = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type=constructor, optim_wrapper_cfg=wrapper))(model)
        before = {name: parameter.clone() for name, parameter in model.named_parameters()}
        log = model.train_step(batch_for(model), optimiser)
    assert cfg.get('find_unused_parameters', False) == bool(model.may_pause)
    assert len(model.distillers) == len(cfg.model.get('distillers', []))
    assert all(torch.isfinite(value).all() for value in log.values())
    moved = {name.split('.')[1] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {role for role in model.trainable if not log.get(f'{role}.expert')} <= moved
    assert not moved & set(model.frozen)


def pipeline(cfg: Config, part: str) -> list[Any]:
    """The transforms of a data loader."""
    return cfg.get(f'{part}_dataloader', Config(dict(dataset={}))).dataset.get('pipeline', [])


def batch_for(model: Any) -> dict[str, Any]:
    """Images and labels that a model can take."""
    segmentor = next((role for role in model.roles.values() if hasattr(role, 'decode_head')), None)
    if segmentor is not None:
        size = segmentor.data_preprocessor.size or small_segmentors.SIZE
        return small_segmentors.batch(2, size=size, classes=segmentor.decode_head.num_classes)
    return small_detectors.batch(2, classes=small_detectors.CLASSES)


def write_trained(file: Path, role: str) -> None:
    """A checkpoint as a training leaves it: of the detector of configs/bccd if its path has ``detector``."""
    name = 'bccd/adm' if 'detector' in str(file) else 'camvid/adm'
    cfg = Config.fromfile(ROOT / f'configs/{name}.py', format_python_code=False)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    assert role in model.roles
    # not all of it and not pretty: formatting takes longer than everything else here
    kept = {key: cfg.to_dict()[key] for key in ('default_scope', 'model', 'test_dataloader', 'test_pipeline')}
    text = '\n'.join(f'{key} = {value!r}' for key, value in kept.items())
    meta = dict(cfg=text, dataset_meta=dict(classes=['a'] * 11, palette=[[0, 0, 0]] * 11))
    write_checkpoint(dict(meta=meta, state_dict=model.state_dict()), file)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the repository's configs, and nothing that a page does outlasts its test."""
    (tmp_path / 'configs' / OWN).mkdir(parents=True)
    for part in (ROOT / 'configs').iterdir():
        if part.name != OWN:
            (tmp_path / 'configs' / part.name).symlink_to(part)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMADM_DATA', os.environ.get('MMADM_DATA', 'data'))
    MODELS.import_from_location()
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS._module_dict))
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())
    return tmp_path


@pytest.mark.parametrize('path', PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_does_what_it_shows(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        page = Page(path, folder, monkeypatch)
        assert page.check() == len(re.findall(r'^ *```\w', page.text, re.MULTILINE))
