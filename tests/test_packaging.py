"""The wheel carries configs and tools in ``mmadm/.mim``, and ``mmadm::`` names work from it and from a checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from runpy import run_path
from zipfile import ZipFile

import extras
import pytest
from mmengine.config import Config
from small_trainings import role_config, write_images

from mmadm.utils.config import resolve_config
from mmadm.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
FILES = ['LICENSE', 'MANIFEST.in', 'README.md', 'constraints.txt', 'model-index.yml', 'pyproject.toml', 'setup.py']
NAMES = ['adm/adm_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py', 'demo/adm_det.py']
SCRIPT = """
import json, sys
import mmadm
from mmadm.cli import train
from mmadm.utils.config import resolve_config

found = {}
for name in sys.argv[1:]:
    cfg = train.load_config(train.parse_args(['mmadm::' + name]))
    found[name] = [str(resolve_config('mmadm::' + name)), str(cfg.work_dir), repr(cfg.to_dict())]
print(json.dumps(dict(package=mmadm.__path__[0], configs=found)))
"""


def hook(name: str, source: Path, out: Path) -> Path:
    """Run a build hook of pyproject.toml's backend, as pip and build do, and return what it wrote."""
    call = f'from setuptools.build_meta import {name}; print({name}(sys.argv[1]))'
    done = subprocess.run(
        [sys.executable, '-c', f'import sys; {call}', str(out)], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> Path:
    """An unpacked source distribution, made from a copy: a build leaves files beside its sources."""
    pytest.importorskip('setuptools', '70.1', reason='the first that builds wheels by itself')
    folder = tmp_path_factory.mktemp('sdist')
    for name in ('mmadm', 'configs', 'tools'):
        shutil.copytree(ROOT / name, folder / 'checkout' / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in FILES:
        shutil.copy2(ROOT / name, folder / 'checkout')
    with tarfile.open(hook('build_sdist', folder / 'checkout', folder)) as archive:
        archive.extractall(folder, filter='data')
    (unpacked,) = folder.glob('mmadm-*/')
    return unpacked


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory) -> Path:
    return hook('build_wheel', source, tmp_path_factory.mktemp('wheel'))


def packed(folder: str) -> set[str]:
    """What of a folder of the checkout belongs into the wheel."""
    files = (path for path in (ROOT / folder).rglob('*') if path.is_file() and '__pycache__' not in path.parts)
    return {str(path.relative_to(ROOT)) for path in files} - {'tools/install.py'}


def test_the_wheel_carries_configs_tools_and_the_index(source, wheel):
    with ZipFile(wheel) as archive:
        names = [name.partition('/.mim/')[2] for name in archive.namelist() if name.startswith('mmadm/.mim/')]
        index = archive.read('mmadm/.mim/model-index.yml').decode()
    assert set(names) == packed('configs') | packed('tools') | {'model-index.yml'}
    for line in index.splitlines()[1:]:
        assert line.removeprefix('  - ') in names
    assert not (source / 'mmadm/.mim').exists() and not (ROOT / 'mmadm/.mim').exists()


def test_the_wheel_carries_the_weights_of_the_demos_teacher(wheel):
    with ZipFile(wheel) as archive:
        assert archive.read('mmadm/demo/teacher.pth') == (ROOT / 'mmadm/demo/teacher.pth').read_bytes()


@pytest.fixture(scope='module')
def site(wheel, tmp_path_factory) -> Path:
    """Packages of an empty environment with the wheel; behind it lies what this one has."""
    folder = tmp_path_factory.mktemp('env')
    venv.create(folder)
    install = [sys.executable, '-m', 'pip', '--python', str(folder / 'bin/python'), 'install', '-q', '--no-deps']
    # nothing of a checkout counts as installed
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run([*install, '--no-index', str(wheel)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob('lib/python*/site-packages')
    # a path file in a folder that a path file names is not read: no editable mmadm comes in
    (site / 'behind.pth').write_text('\n'.join({sysconfig.get_paths()[kind] for kind in ('purelib', 'platlib')}))
    return site


def run(site: Path, folder: Path, *words: str, **environment: str) -> str:
    """Start a program of the environment in a folder, without a checkout in sight; returns what it printed."""
    words = (str(site.parents[2] / 'bin' / words[0]), *words[1:])
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'} | {'COLUMNS': '200', **environment}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_of_an_installed_wheel_works_from_an_empty_folder(site, tmp_path):
    assert 'usage: mmadm VERB' in run(site, tmp_path, 'mmadm')
    assert run(site, tmp_path, 'python', '-m', 'mmadm', '--version').startswith('mmadm 0.')
    assert f'in {site}/mmadm' in run(site, tmp_path, 'mmadm', 'doctor')
    pair = [f'mmseg::segformer/segformer_mit-{size}_8xb2-160k_ade20k-512x512.py' for size in ('b0', 'b1')]
    told = run(site, tmp_path, 'mmadm', 'distill', *pair, '--method', 'dml', '--out', 'c.py')
    # on the forks the base lies beside it
    assert 'wrote c.py' in told and {'c.py'} <= {file.name for file in tmp_path.iterdir()} <= {'c.py', 'c_base.py'}


def test_an_installed_wheel_finds_its_configs_from_anywhere(site, tmp_path):
    found = run(site, tmp_path, 'python', '-W', 'ignore', '-c', SCRIPT, *NAMES)
    report = json.loads(found.splitlines()[-1])
    assert Path(report['package']) == site / 'mmadm'
    for name, (path, work_dir, text) in report['configs'].items():
        assert Path(path) == site / 'mmadm/.mim/configs' / name
        assert work_dir == f'work_dirs/{Path(name).stem}'
        ours = Config.fromfile(ROOT / 'configs' / name)
        ours.launcher, ours.work_dir = 'none', work_dir
        assert text == repr(ours.to_dict())


def test_mim_trains_with_an_installed_wheel(site, tmp_path):
    extras.use('mim')
    (tmp_path / 'mim').mkdir()
    for entry in extras.FOLDER.glob('*'):
        if not entry.name.startswith('torchvision'):  # mmengine imports it, and it may be one for GPUs
            (tmp_path / 'mim' / entry.name).symlink_to(entry)
    role_config(write_images(tmp_path / 'data'), iterations=2).dump(tmp_path / 'mine.py')
    words = ['-m', 'mim', 'train', 'mmadm', 'mine.py', '--work-dir', 'work']
    told = run(site, tmp_path, 'python', '-W', 'ignore', *words, PYTHONPATH=str(tmp_path / 'mim'))
    assert f'{site}/mmadm/.mim/tools/train.py mine.py' in told and 'Training finished successfully' in told
    assert (tmp_path / 'work/iter_2_student.pth').is_file()


def test_a_build_replaces_what_an_earlier_one_left(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / '.mim/configs').mkdir(parents=True)
    (tmp_path / '.mim/configs/removed.py').touch()
    run_path('setup.py')['pack_mim'](tmp_path / '.mim')
    assert (tmp_path / '.mim/configs/adm').is_dir() and not (tmp_path / '.mim/configs/removed.py').exists()


def test_a_checkout_finds_its_configs_beside_the_package():
    assert resolve_config(f'mmadm::{NAMES[0]}') == ROOT / 'configs' / NAMES[0]
    with pytest.raises(ConfigError, match=r"mmadm has no config 'adm/adm_retinanet.*adm/adm_retinanet_r101_r50_fpn_1x"):
        resolve_config('mmadm::adm/adm_retinanet_r101_r50_fpn_1_coco.py')
