"""The errors that a user of mmadm meets. Each message names the config key, what was found and what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class ConfigError(ValueError):
    """A config that cannot work; raised before training starts."""


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, torn or made for another architecture."""


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite during training."""


def require_list(key: str, value: object) -> None:
    """Refuse a string where a list of them is meant: it would be read letter by letter.

    Args:
        key: Config key to name in the error.
        value: What the user wrote.

    Raises:
        ConfigError: If it is a string.
    """
    if isinstance(value, str):
        raise ConfigError(f'{key}={value!r}: must be a list: {[value]}')


def require_dict(key: str, value: object, example: str) -> None:
    """Refuse anything but a dict where the config of a module is meant.

    Args:
        key: Config key to name in the error.
        value: What the user wrote.
        example: What would be right.

    Raises:
        ConfigError: If it is no dict.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f'{key}={value!r}: must be a dict, such as {example}')


def near_matches(name: str, valid: Iterable[str]) -> str:
    """Say which valid names come nearest to a wrong one.

    Args:
        name: What the user wrote.
        valid: All names that would be right.

    Returns:
        A clause for an error message: the near matches, or every valid name if there are at most ten.
    """
    names = list(valid)
    near = get_close_matches(name, names, n=5, cutoff=0.5)
    if near:
        return f'did you mean {", ".join(map(repr, near))}?'
    shown = ', '.join(map(repr, names[:10]))
    return f'valid: {shown}' + (f', ... ({len(names)} in all)' if len(names) > 10 else '')
