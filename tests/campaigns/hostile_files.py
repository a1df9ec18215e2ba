"""Checkpoints from others: with code in them, of absurd sizes, torn, or no checkpoints at all."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: Makes a file, given a whole checkpoint of the training and the file that its code would make
Maker = Callable[[Path, dict[str, Any], Path], object]


class Code:
    """Is pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """The call, which unpickling makes."""
        return self.call


def touch(marker: Path) -> Code:
    """Code that makes a file."""
    return Code(os.system, f'touch {marker}')


def recorded(marker: Path) -> str:
    """The same as a config."""
    return f'import os\nos.system("touch {marker}")\nmodel = dict(roles=dict())\n'


def claim(file: Path, good: dict[str, Any]) -> None:
    """A file of a few bytes that says its tensor has 10**12 numbers."""
    number = 123457
    with io.BytesIO() as buffer:
        torch.save({**good, 'state_dict': {'backbone.conv1.weight': torch.zeros(number)}}, buffer)
        source = zipfile.ZipFile(buffer)
        with zipfile.ZipFile(file, 'w') as target:
            for name in source.namelist():
                content = source.read(name)
                if name.endswith('data.pkl'):
                    content = content.replace(
                        b'J' + struct.pack('<i', number), b'\x8a\x06' + struct.pack('<q', 10**12)[:6]
                    )
                target.writestr(name, content[:64] if '/data/' in name else content)


def with_meta(file: Path, good: dict[str, Any], **meta: Any) -> None:
    """A whole checkpoint with other entries in ``meta``."""
    torch.save({**good, 'meta': {**good['meta'], **meta}}, file)


def huge(good: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint in which one number is shown as 10**9."""
    state = dict(good['state_dict'])
    state[next(iter(state))] = torch.zeros(1).expand(10**9)
    return {**good, 'state_dict': state}


def zip_of(file: Path, **content: bytes) -> None:
    """A zip that is no checkpoint."""
    with zipfile.ZipFile(file, 'w') as target:
        for name, data in content.items():
            target.writestr(name, data)


FILES: dict[str, Maker] = {
    'code among the weights': lambda f, good, m: torch.save({**good, 'state_dict': {'a': touch(m)}}, f),
    'code in meta': lambda f, good, m: with_meta(f, good, seed=touch(m)),
    'code in the optimiser': lambda f, good, m: torch.save({**good, 'optimizer': touch(m)}, f),
    'code in the old format': lambda f, good, m: torch.save(
        {**good, 'meta': {'a': touch(m)}}, f, _use_new_zipfile_serialization=False
    ),
    'code in a bare pickle': lambda f, good, m: f.write_bytes(pickle.dumps({'meta': touch(m), 'state_dict': {}})),
    'code as a text for eval': lambda f, good, m: with_meta(f, good, a=Code(eval, f'open({str(m)!r}, "w")')),
    'code by getattr': lambda f, good, m: with_meta(f, good, a=Code(getattr, Path, 'touch')),
    'code in an array of objects': lambda f, good, m: with_meta(f, good, a=np.array([touch(m)], dtype=object)),
    'code as the recorded config': lambda f, good, m: with_meta(f, good, cfg=recorded(m)),
    'code inside the recorded config': lambda f, good, m: with_meta(
        f, good, cfg=good['meta']['cfg'].replace('model = dict(', f'model = dict(x=open({str(m)!r}, "w"), ', 1)
    ),
    'a network that is a command': lambda f, good, m: with_meta(
        f, good, cfg=good['meta']['cfg'].replace("'ResNet'", "'subprocess.Popen', args=['touch', '%s']" % m)  # noqa: UP031
    ),
    'code as a config of old': lambda f, good, m: with_meta(f, good, config=recorded(m)),
    'a tensor of 10**9 from one number': lambda f, good, m: torch.save(huge(good), f),
    'the same in the old format': lambda f, good, m: torch.save(huge(good), f, _use_new_zipfile_serialization=False),
    'a claim of 10**12 numbers': lambda f, good, m: claim(f, good),
    'lists 200000 deep': lambda f, good, m: f.write_bytes(b'\x80\x02' + b']' * 200000 + b'a' * 199999 + b'.'),
    'cut in the middle': lambda f, good, m: (torch.save(good, f), os.truncate(f, f.stat().st_size // 2)),
    'cut at the end': lambda f, good, m: (torch.save(good, f), os.truncate(f, f.stat().st_size - 9)),
    'zero bytes': lambda f, good, m: f.write_bytes(b''),
    'three bytes': lambda f, good, m: f.write_bytes(b'abc'),
    'a text': lambda f, good, m: f.write_text('404: Not Found\n' * 40),
    'a zip of something else': lambda f, good, m: zip_of(f, **{'word/document.xml': b'<xml/>'}),
    'a folder': lambda f, good, m: f.mkdir(),
    'a pipe': lambda f, good, m: os.mkfifo(f),
    'a link that leads nowhere': lambda f, good, m: f.symlink_to('/nowhere/at/all.pth'),
    'a list': lambda f, good, m: torch.save([1, 2], f),
    'weights that are a list': lambda f, good, m: torch.save({**good, 'state_dict': [1]}, f),
    'weights that are texts': lambda f, good, m: torch.save({**good, 'state_dict': {'a': 'b'}}, f),
    'weights with numbers for names': lambda f, good, m: torch.save({**good, 'state_dict': {1: torch.zeros(1)}}, f),
    'meta that is a text': lambda f, good, m: torch.save({**good, 'meta': 'none'}, f),
    'an iteration that is a text': lambda f, good, m: with_meta(f, good, iter='two'),
    'an optimiser that is a list': lambda f, good, m: torch.save({**good, 'optimizer': [1]}, f),
}  # fmt: skip
