"""Installing into an environment adds what is missing, keeps what is there and never mixes the two stacks."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from runpy import run_path
from zipfile import ZipFile

import pytest


@pytest.fixture(scope='module')
def installer(repo_root):
    return run_path(str(repo_root / 'tools/install.py'))


def test_what_is_installed_becomes_the_constraint(installer):
    constraints = '# tested\ntorch==2.13.0\nmmengine==0.10.7\n\nsetuptools<81\nopencv-python<5\n'
    installed = {'torch': '2.9.1+cu130', 'opencv-python': '5.1', 'setuptools': '82.0', 'requests': '2.0'}
    assert installer['limits'](installed, constraints) == [
        'mmengine==0.10.7',
        'opencv-python==5.1',
        'requests==2.0',
        'setuptools==82.0',
        'torch==2.9.1+cu130',
    ]


def test_the_setuptools_of_a_new_environment_may_be_updated_for_torch(installer):
    assert installer['limits']({'setuptools': '65.5.0'}, 'setuptools<81\n') == ['setuptools<81']


def test_the_reference_stack_is_required_and_pinned_to_one_version(installer, repo_root):
    setup, pins = installer['SETUP'], (repo_root / 'constraints.txt').read_text().splitlines()
    for requirement in ('torch>=2.6', 'mmengine>=0.10.7,<1', 'mmcv>=2.1.0,<2.2', 'onedl-mmcv>=2.3.6'):
        assert requirement in [*setup['REQUIRES'], *setup['EXTRAS']['openmmlab'], *setup['EXTRAS']['onedl']]
        name = installer['distribution_name'](requirement)
        assert sum(line.startswith(f'{name}==') for line in pins) == 1


def test_each_stack_has_its_own_distributions_of_the_same_import_names(installer):
    shared = {'mmengine', 'mmcv', 'mmdet', 'mmseg'}
    for stack, packages in installer['STACKS'].items():
        required = packages & {installer['distribution_name'](r) for r in installer['SETUP']['EXTRAS'][stack]}
        assert {installer['import_name'](package) for package in required} == shared
    assert not installer['STACKS']['openmmlab'] & installer['STACKS']['onedl']


def test_names_are_compared_as_pip_compares_them(installer):
    names = ['Opencv_Python>=3', 'mmcv>=2.1.0,<2.2', 'ruamel.yaml', 'jinja2 ; python_version>"3"']
    assert [installer['distribution_name'](name) for name in names] == [
        'opencv-python',
        'mmcv',
        'ruamel-yaml',
        'jinja2',
    ]


def wheel(folder: Path, name: str, version: str) -> None:
    info = f'{name}-{version}.dist-info'
    with ZipFile(folder / f'{name}-{version}-py3-none-any.whl', 'w') as archive:
        archive.writestr(f'{name}.py', f'__version__ = {version!r}\n')
        archive.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
        archive.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
        archive.writestr(f'{info}/RECORD', '')


def test_an_environment_keeps_its_versions(tmp_path, repo_root):
    """A real environment that has an old `kept` gets `added`, and keeps `kept` though a newer one is at hand."""
    for name, version in (('kept', '1.0'), ('kept', '2.0'), ('added', '1.0'), ('added', '3.0')):
        wheel(tmp_path, name, version)
    venv.create(tmp_path / 'env', with_pip=True)
    python = tmp_path / 'env' / 'bin' / 'python'
    environment = {**os.environ, 'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': str(tmp_path), 'PIP_CONFIG_FILE': os.devnull}
    subprocess.run([python, '-m', 'pip', 'install', '-q', 'kept==1.0'], env=environment, check=True)
    script = f"""
from pathlib import Path
from runpy import run_path
tool = run_path({str(repo_root / 'tools/install.py')!r})
constraints = Path({str(tmp_path / 'constraints.txt')!r})
constraints.write_text('kept==2.0\\nadded<2\\n')
tool['install'].__globals__['CONSTRAINTS'] = constraints
tool['install'](['kept', 'added'], {{'kept': '1.0'}})
"""
    subprocess.run([python, '-c', script], env=environment, check=True, stdout=sys.stderr)
    versions = 'import kept, added; print(kept.__version__, added.__version__)'
    assert subprocess.check_output([python, '-c', versions], text=True).split() == ['1.0', '1.0']


@pytest.mark.parametrize(
    ('stack', 'other', 'held'),
    [('openmmlab', 'onedl', 'onedl-mmcv'), ('onedl', 'openmmlab', 'mmcv'), ('onedl', 'openmmlab', 'mmengine-lite')],
)
def test_an_environment_with_the_other_stack_is_refused(stack, other, held, tmp_path, repo_root):
    """A real environment, without pip: an attempt to install anything would end with another message."""
    venv.create(tmp_path / 'env')
    python = tmp_path / 'env' / 'bin' / 'python'
    (site,) = (tmp_path / 'env' / 'lib').glob('python*/site-packages')
    (site / f'{held}.dist-info').mkdir()
    (site / f'{held}.dist-info' / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {held}\nVersion: 1.0\n')
    command = [python, repo_root / 'tools/install.py', '--stack', stack]
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f'STACK={stack}, but {tmp_path / "env"} holds packages of STACK={other}: {held}. ')
    assert f'use STACK={other}, or name another environment by VENV=path' in done.stderr


def make(*arguments: str, repo_root: Path) -> subprocess.CompletedProcess:
    """Run make as from a shell: `make test` hands its own flags and variables on to the tests."""
    environment = {key: os.environ[key] for key in os.environ.keys() - {'MAKEFLAGS', 'MAKEOVERRIDES', 'STACK', 'VENV'}}
    command = ['make', '-C', str(repo_root), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ('arguments', 'stack', 'folder'),
    [
        ([], 'openmmlab', '.venv'),
        (['STACK=onedl'], 'onedl', '.venv-onedl'),
        (['STACK=onedl', 'VENV=mine'], 'onedl', 'mine'),
    ],
)
def test_every_target_uses_the_stack_and_its_environment(arguments, stack, folder, repo_root):
    for target in ('install', 'demo', 'test', 'lint'):
        done = make('-n', target, *arguments, repo_root=repo_root)
        steps = [line.split() for line in done.stdout.splitlines() if '/bin/python' in line]
        assert steps[0][:4] == [f'{folder}/bin/python', 'tools/install.py', '--stack', stack]
        assert all(f'{folder}/bin/python' in step for step in steps)
        assert len(steps) > 1 or target == 'install'


def test_the_long_demo_is_asked_for_by_full(repo_root):
    for words, options in ([], []), (['FULL=1'], ['--full']):
        (step,) = re.findall('^.*tools/demo.py.*$', make('-n', 'demo', *words, repo_root=repo_root).stdout, re.M)
        assert step.split() == ['.venv/bin/python', 'tools/demo.py', *options]


@pytest.mark.parametrize('stack', ['', 'mmrazor', 'openmmlab onedl'])
def test_another_stack_is_an_error_before_an_environment_is_made(stack, tmp_path, repo_root):
    done = make('install', f'STACK={stack}', f'VENV={tmp_path / "env"}', repo_root=repo_root)
    assert done.returncode == 2
    assert f'STACK is "{stack}", but must be openmmlab (official packages) or onedl (maintained forks)' in done.stderr
    assert not (tmp_path / 'env').exists()
