"""The config that mmengine puts into a checkpoint, as the text of a Python program: read, but never run.

Running it would let a checkpoint run any code. What mmengine writes is nothing but literals and ``dict(...)``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.utils import get_object_from_string
from torch import nn

from mmadm.utils.errors import CheckpointError

#: Packages whose classes a network may be made of, by the dotted paths that new-style configs leave
_TOOLBOXES = ('mmengine', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain', 'mmadm')


def assignments(text: str) -> dict[str, ast.expr]:
    """What a program assigns to names at its top.

    Raises:
        SyntaxError, TypeError, ValueError: If the text is no program.
    """
    return {
        target.id: node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def member(node: ast.expr | None, key: str) -> ast.expr | None:
    """The value that a dict has under a key, if the node is a dict and has it."""
    return (_members(node) or {}).get(key)


def literal(node: ast.expr | None) -> Any:
    """Value of a literal or of dicts and lists of them; ValueError for anything else."""
    if node is None:
        raise ValueError('nothing there')
    if (members := _members(node)) is not None:
        return {key: literal(value) for key, value in members.items()}
    if isinstance(node, ast.List | ast.Tuple):
        items = map(literal, node.elts)
        return list(items) if isinstance(node, ast.List) else tuple(items)
    return ast.literal_eval(node)


def recorded_config(text: Any, where: str) -> Config:
    """The config of a training.

    Args:
        text: Entry ``cfg`` of a checkpoint's ``meta``.
        where: The checkpoint, for the error.

    Raises:
        CheckpointError: If it is anything but settings.
    """
    try:
        lines = [node for node in ast.parse(text).body if not isinstance(node, ast.Assign)]
        if not lines:
            return Config({name: literal(node) for name, node in assignments(text).items()})
        reason = f'line {lines[0].lineno} is {ast.unparse(lines[0])[:80]!r}'
    except (RecursionError, SyntaxError, TypeError, ValueError) as error:
        reason = str(error)
    raise CheckpointError(f'{where} holds a config that is more than a list of settings, and is not run: {reason}')


def require_classes(model: Mapping[str, Any], where: str) -> None:
    """Refuse a network whose config names, by a dotted path, something to call that is no part of a network.

    Args:
        model: A model config of others.
        where: The checkpoint, for the error.

    Raises:
        CheckpointError: Names the path.
    """
    for name in _types(model):
        try:
            found = get_object_from_string(name) if '.' in name else None
        except Exception:  # the name of a registry, or nothing
            continue
        toolbox = getattr(found, '__module__', '').partition('.')[0] in _TOOLBOXES
        if found is not None and not (isinstance(found, type) and (toolbox or issubclass(found, nn.Module))):
            raise CheckpointError(f'{where} holds a config with type={name!r}, which is no part of a network')


def _types(node: Any) -> Iterator[str]:
    """Every ``type`` at any depth that is a string."""
    if isinstance(node, Mapping):
        if isinstance(node.get('type'), str):
            yield node['type']
        for value in node.values():
            yield from _types(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _types(value)


def _members(node: ast.expr | None) -> dict[Any, ast.expr] | None:
    """What a ``{...}``, ``dict(...)`` or ``dict({...})`` holds; None if the node is none of these."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        first = _members(node.args[0]) or {} if node.args else {}
        return {**first, **{keyword.arg: keyword.value for keyword in node.keywords}}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}
    return None
