"""A config as a person would write it: ``dict(...)``, one line where it fits, references to the base."""

from __future__ import annotations

from collections.abc import Mapping
from keyword import iskeyword
from typing import Any

WIDTH = 120


class Raw(str):
    """Text that stands in a config as it is, such as ``{{_base_.model}}``."""


def statement(key: str, value: Any) -> str:
    """An assignment, in one line or in several."""
    return f'{key} = {expression(value, len(key) + 3)}\n'


def expression(value: Any, used: int = 0, indent: int = 0) -> str:
    """A value as Python text.

    Args:
        value: Dicts, lists, tuples, :class:`Raw` and literals.
        used: Columns that stand before it in its first line.
        indent: Columns before each further line.
    """
    flat = _flat(value)
    if used + len(flat) < WIDTH or not isinstance(value, Mapping | list | tuple) or not value:
        return flat
    inner = indent + 4
    if isinstance(value, Mapping):
        opening, closing = ('dict(', ')') if _is_keywords(value) else ('{', '}')
        heads = [f'{key}=' if closing == ')' else f'{key!r}: ' for key in value]
        items = list(value.values())
    else:
        opening, closing = ('[', ']') if isinstance(value, list) else ('(', ')')
        heads, items = [''] * len(value), list(value)
    lines = [
        f'{" " * inner}{head}{expression(item, inner + len(head) + 1, inner)},'
        for head, item in zip(heads, items, strict=True)
    ]
    return '\n'.join([opening, *lines, ' ' * indent + closing])


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        if _is_keywords(value):
            return f'dict({", ".join(f"{key}={_flat(item)}" for key, item in value.items())})'
        return f'{{{", ".join(f"{key!r}: {_flat(item)}" for key, item in value.items())}}}'
    if isinstance(value, list):
        return f'[{", ".join(map(_flat, value))}]'
    if isinstance(value, tuple):
        return f'({", ".join(map(_flat, value))}{"," if len(value) == 1 else ""})'
    if isinstance(value, type):  # of a new-style config
        return repr(f'{value.__module__}.{value.__qualname__}')
    return str(value) if isinstance(value, Raw) else repr(value)


def _is_keywords(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and key.isidentifier() and not iskeyword(key) for key in value)
