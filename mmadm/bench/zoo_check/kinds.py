"""The kinds of networks in the installed model zoos, and the smallest config of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmadm.utils.config import resolve_config
from mmadm.utils.optim_config import type_name

#: Keys of a model whose types make a kind: its body, not its losses, assigners or norms
_PARTS = re.compile(r'backbone|neck|head|extractor|encoder|decoder|detector|branch|language_model|reid|tracker|motion')
#: Options of a backbone that change what it is made of
_ADDED = ('dcn', 'plugins')
#: Keys of a backbone that say how large it is
_SIZES = (
    'depth', 'depths', 'embed_dims', 'embed_dim', 'base_channels', 'num_layers', 'deepen_factor', 'widen_factor',
    'channels',
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """Networks of equal parts.

    Attributes:
        toolbox: Package that brings the config.
        name: Types of the meta-architecture and of its parts.
        config: ``pkg::path`` of the smallest one.
    """

    toolbox: str
    name: str
    config: str


def kinds_of(toolbox: str) -> list[Kind]:
    """Every kind of an installed toolbox, in the order of the configs; a config that cannot be read is one by itself.

    Args:
        toolbox: ``mmseg``, ``mmdet`` or ``mmpretrain``.
    """
    found: dict[str, tuple[float, Kind]] = {}
    for path in _configs(toolbox):
        config = f'{toolbox}::{path}'
        try:  # without the packages that some import: the check tells which are missing
            model = Config.fromfile(resolve_config(config), import_custom_modules=False).get('model')
        except Exception:  # whatever it is, the check of this config tells it
            found[config] = 0.0, Kind(toolbox, f'unreadable {Path(path).stem}', config)
            continue
        if not isinstance(model, Mapping):  # a part of other configs
            continue
        name, size = ' '.join(_parts(model)), _size(model)
        if name not in found or size < found[name][0]:
            found[name] = size, Kind(toolbox, name, config)
    return sorted((kind for _, kind in found.values()), key=lambda kind: kind.config)


def _configs(toolbox: str) -> list[str]:
    spec = find_spec(toolbox)
    if spec is None or spec.origin is None:
        return []
    root = Path(spec.origin).parent / '.mim' / 'configs'
    paths = (path.relative_to(root) for path in root.glob('*/*.py'))
    return sorted(path.as_posix() for path in paths if not path.parts[0].startswith('_'))


def _parts(node: Mapping[str, Any], key: str = '') -> Iterator[str]:
    """Types of a model and of its parts at any depth, each once in a row."""
    if 'type' in node:
        added = ''.join(f'+{name}' for name in _ADDED if node.get(name) and key == 'backbone')
        yield type_name(node['type']) + added
    former = None
    for name in sorted(node):
        inner = node[name] if isinstance(node[name], list | tuple) else [node[name]]
        for part in inner if _PARTS.search(name) and not name.endswith(('_cfg', 'loss')) else ():
            found = list(_parts(part, name)) if isinstance(part, Mapping) else []
            if found != former:
                yield from found
            former = found


def _size(model: Mapping[str, Any]) -> float:
    """A number that grows with a network, to compare those of one kind."""
    backbone = model.get('backbone') or {}
    values = [backbone[key] for key in _SIZES if key in backbone]
    numbers = [sum(value) if isinstance(value, list | tuple) else value for value in values]
    arch = {'tiny': 1, 'small': 2, 'base': 3, 'large': 4}.get(str(backbone.get('arch')), 2)
    return prod(number for number in numbers if isinstance(number, int | float)) * arch
