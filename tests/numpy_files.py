"""Checkpoints as another NumPy wrote them: NumPy 2 renames the module by which pickle makes arrays and numbers."""

from __future__ import annotations

import zipfile
from pathlib import Path

NAMES = {1: b'numpy.core.multiarray\n', 2: b'numpy._core.multiarray\n'}


def written_by(version: int, path: Path) -> Path:
    """Rewrite a checkpoint in place as NumPy 1 or 2 would have written it; it must hold something of NumPy."""
    with zipfile.ZipFile(path) as archive:
        records = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    wanted, other = NAMES[version], NAMES[3 - version]
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in records:
            if name.endswith('data.pkl'):
                data = data.replace(other, wanted)
                assert wanted in data and other not in data
            archive.writestr(name, data)
    return path
