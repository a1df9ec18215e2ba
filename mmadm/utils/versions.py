"""Which OpenMMLab packages mmadm runs with.

The official packages and the onedl forks have different distribution names but the same import names, so the import
names are what counts here.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from packaging.version import Version

# Import name -> (oldest version tried, first version that may break the interface).
SUPPORTED = {
    'mmengine': ('0.10.7', '1.0.0'),
    'mmcv': ('2.1.0', '3.0.0'),
    'mmseg': ('1.2.2', '2.0.0'),
    'mmdet': ('3.3.0', '4.0.0'),
    'mmpretrain': ('1.2.0', '2.0.0'),
}


def require(name: str) -> ModuleType:
    """Import an OpenMMLab package and check its version.

    Args:
        name: An import name: ``mmengine``, ``mmcv``, ``mmseg``, ``mmdet`` or ``mmpretrain``.

    Returns:
        The imported package.

    Raises:
        ImportError: If the package is missing, too old or too new; says what was found, what is needed and how to
            install it.
    """
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # the package is there, something it needs is not: its own message says more
            raise
        raise ImportError(_advice(name, 'is not installed'), name=name) from None
    oldest, below = SUPPORTED[name]
    if not Version(oldest) <= Version(module.__version__) < Version(below):
        raise ImportError(_advice(name, f'{module.__version__} is installed'), name=name)
    return module


def check_versions() -> None:
    """Check what every use of mmadm needs; mmseg and mmdet are checked when a role first uses them.

    Raises:
        ImportError: If mmengine or mmcv is missing, outside its range, or mmcv was installed without its compiled
            operators, which mmseg and mmdet import.
    """
    require('mmengine')
    require('mmcv')
    if find_spec('mmcv._ext') is None:
        raise ImportError(_advice('mmcv', 'is installed without its compiled operators'), name='mmcv')


def _advice(name: str, found: str) -> str:
    oldest, below = SUPPORTED[name]
    if name == 'mmpretrain':
        wanted = f'{name}>={oldest},<{below}'
        return f'mmadm needs {wanted} for classifiers, but {name} {found}: pip install "mmadm[classification]"'
    return (
        f'mmadm needs {name}>={oldest},<{below}, but {name} {found}. Install one of the two sets of packages:\n'
        '    pip install "mmadm[openmmlab]"  # official: mmengine, mmcv, mmdet, mmsegmentation\n'
        '    pip install "mmadm[onedl]"      # maintained forks with the same import names\n'
        'mmcv must be built for the installed torch; `make install` in a checkout of mmadm does all of this.'
    )
