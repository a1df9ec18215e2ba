"""Package metadata; the pinned versions that the tests run with are in constraints.txt."""

import shutil
from pathlib import Path
from runpy import run_path

ROOT = Path(__file__).parent

# mmadm uses the import names mmengine, mmcv, mmseg and mmdet, which two sets of distributions provide. Depending on
# either would install it over the other, so both are extras and mmadm checks the import names itself.
REQUIRES = ['torch>=2.6', 'numpy', 'scipy', 'rich', 'jinja2', 'matplotlib', 'packaging']
EXTRAS = {
    # mmsegmentation imports ftfy and regex without declaring them.
    'openmmlab': [
        'mmengine>=0.10.7,<1',
        'mmcv>=2.1.0,<2.2',
        'mmdet>=3.3.0,<4',
        'mmsegmentation>=1.2.2,<2',
        'ftfy',
        'regex',
        'setuptools<81',  # mmengine inherits from `mmseg::` configs by pkg_resources, which later ones lack
    ],
    'onedl': [
        'onedl-mmengine>=0.10.12',
        'onedl-mmcv>=2.3.6',
        'onedl-mmdetection>=3.5.1',
        'onedl-mmsegmentation>=1.4.2',
    ],
    'foundation': ['timm>=1.0.20'],  # the first with DINOv3
    'onnx': ['onnx'],
    'classification': ['mmpretrain>=1.2.0,<2'],
    'onedl-classification': ['onedl-mmpretrain>=1.3.6'],
    'dev': ['onnx', 'onnxruntime', 'pytest', 'pytest-xdist', 'ruff', 'mypy', 'pre-commit'],
}


def pack_mim(folder: Path) -> None:
    """Copy what OpenMIM and ``mmadm::`` config names look for; tools/install.py, which installs a checkout, stays out.

    Args:
        folder: The ``.mim`` of the package that is being built; made anew, as one of an earlier build may be outdated.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in ('configs', 'tools'):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__', 'install.py'))
    shutil.copy2(ROOT / 'model-index.yml', folder)


if __name__ == '__main__':
    from setuptools import find_packages, setup
    from setuptools.command.build_py import build_py

    class BuildWithConfigs(build_py):
        """Builds the package with its configs, which lie beside it in a checkout."""

        def run(self) -> None:
            """Copy the modules, then the rest; an editable install has the checkout itself."""
            super().run()
            if not self.editable_mode:
                pack_mim(Path(self.build_lib) / 'mmadm' / '.mim')

    setup(
        cmdclass={'build_py': BuildWithConfigs},
        name='mmadm',
        version=run_path(str(ROOT / 'mmadm' / 'version.py'))['__version__'],
        description='Online, semi-online and offline knowledge distillation for MMSegmentation and MMDetection',
        long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
        long_description_content_type='text/markdown',
        license='Apache-2.0',
        license_files=['LICENSE'],
        packages=find_packages(include=['mmadm', 'mmadm.*']),
        package_data={'mmadm': ['**/*.html', '**/*.j2', 'demo/teacher.pth']},
        entry_points={'console_scripts': ['mmadm = mmadm.cli.main:main']},
        python_requires='>=3.10',
        install_requires=REQUIRES,
        extras_require=EXTRAS,
    )
