"""`import mmadm` says which OpenMMLab package is missing or does not fit, and how to install one that does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmadm.utils.versions import SUPPORTED, check_versions, require

# What `mmadm[onedl]` provides under the same import names.
FORKS = {'mmengine': '0.10.12', 'mmcv': '2.3.6', 'mmseg': '1.4.2', 'mmdet': '3.5.1'}


def python(script: str, repo_root: Path, first: Path | None = None) -> subprocess.CompletedProcess:
    path = os.pathsep.join(str(p) for p in (first, repo_root) if p)
    environment = {**os.environ, 'PYTHONPATH': path}
    return subprocess.run([sys.executable, '-c', script], env=environment, capture_output=True, text=True, check=False)


def package(folder: Path, name: str, version: str) -> None:
    """Write an importable package with nothing but a version."""
    (folder / name).mkdir()
    (folder / name / '__init__.py').write_text(f'__version__ = {version!r}\n')


def test_the_environment_of_the_tests_fits():
    check_versions()
    for name in set(SUPPORTED) - {'mmpretrain'}:  # for classifiers alone
        assert require(name).__name__ == name


@pytest.mark.parametrize('name', ['mmengine', 'mmcv'])
def test_a_missing_package_is_named_with_both_ways_to_install_it(name, repo_root):
    done = python(f'import sys; sys.modules[{name!r}] = None; import mmadm', repo_root)
    message = done.stderr[done.stderr.index('\nImportError: ') :]
    assert f'mmadm needs {name}>={SUPPORTED[name][0]},<{SUPPORTED[name][1]}' in message
    assert f'{name} is not installed' in message
    assert 'pip install "mmadm[openmmlab]"' in message
    assert 'pip install "mmadm[onedl]"' in message


@pytest.mark.parametrize('version', ['0.10.6', '1.0.0', '0.10.7rc1'])
def test_a_version_outside_the_range_is_refused(version, tmp_path, repo_root):
    package(tmp_path, 'mmengine', version)
    done = python('import mmadm', repo_root, tmp_path)
    assert f'ImportError: mmadm needs mmengine>=0.10.7,<1.0.0, but mmengine {version} is installed' in done.stderr


def test_the_forks_are_accepted(tmp_path, repo_root):
    for name, version in FORKS.items():
        package(tmp_path, name, version)
    (tmp_path / 'mmcv' / '_ext.py').touch()
    script = 'import mmadm; from mmadm.utils.versions import require; print(*map(vars, map(require, {!r})))'
    done = python(script.format(list(FORKS)), repo_root, tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(version in done.stdout for version in FORKS.values())


def test_mmcv_without_operators_is_refused(tmp_path, repo_root):
    package(tmp_path, 'mmcv', '2.1.0')
    done = python('import mmadm', repo_root, tmp_path)
    assert 'ImportError: mmadm needs mmcv>=2.1.0,<3.0.0, but mmcv is installed without its compiled' in done.stderr


def test_a_toolbox_that_is_missing_matters_only_when_it_is_asked_for(repo_root):
    script = """
import sys
sys.modules['mmdet'] = None
import mmadm
from mmadm.utils.versions import require
require('mmseg')
try:
    require('mmdet')
except ImportError as error:
    print(error)
"""
    done = python(script, repo_root)
    assert done.stdout.startswith('mmadm needs mmdet>=3.3.0,<4.0.0, but mmdet is not installed'), done.stderr


def test_a_broken_installation_keeps_its_own_message(tmp_path, repo_root):
    (tmp_path / 'mmengine').mkdir()
    (tmp_path / 'mmengine' / '__init__.py').write_text('import a_package_that_mmengine_needs')
    done = python('import mmadm', repo_root, tmp_path)
    assert "ModuleNotFoundError: No module named 'a_package_that_mmengine_needs'" in done.stderr
