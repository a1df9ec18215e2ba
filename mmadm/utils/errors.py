"""The errors that a user of mmadm meets. Each message names the config key, what was found and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from inspect import signature
from math import isfinite
from typing import Any


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
    if not isinstance(value, list | tuple | None):
        raise ConfigError(f'{key}={value!r}: must be a list')


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


def require_numbers(where: str, made: Callable[..., Any], cfg: Mapping[str, Any]) -> None:
    """Refuse what is no number where one is meant: most would fail only in the first iteration.

    Args:
        where: Config key to name in the error.
        made: What is made from the config; its parameters that are annotated as ``float`` or ``int`` are numbers.
        cfg: Its keyword arguments.

    Raises:
        ConfigError: If one of them is no finite number, or is negative.
    """
    for key, parameter in signature(made).parameters.items():
        value, wanted = cfg.get(key, parameter.default), str(parameter.annotation)
        if key not in cfg or wanted not in ('float', 'int', 'float | None', 'int | None'):
            continue
        if value is None and wanted.endswith('None'):
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not isfinite(value) or value < 0 or (wanted.startswith('int') and value != int(value)):
            kind = 'a whole number' if wanted.startswith('int') else 'a number'
            raise ConfigError(f'{where}.{key}={value!r}: must be {kind} of at least 0')


def cause_of(error: BaseException | None) -> str:
    """Say in a clause why a part of a toolbox failed; a package that is missing is named.

    Args:
        error: What was raised; it may stand for the error that it was raised from.
    """
    inner = error
    while inner is not None:
        if isinstance(inner, ModuleNotFoundError) and inner.name:
            return f'it needs the package {inner.name.partition(".")[0]!r}, which is not installed'
        inner = inner.__cause__ or inner.__context__
    return f'{type(error).__name__}: {" ".join(str(error).split())}'


def first_of(names: Sequence[str], most: int = 5) -> str:
    """Name the first of many and say how many more there are: the tensors of a wrong network number hundreds.

    Args:
        names: All of them.
        most: As many are named.
    """
    shown = ', '.join(names[:most])
    return f'{shown} and {len(names) - most} more' if len(names) > most else shown


def near_matches(name: object, valid: Iterable[str]) -> str:
    """Say which valid names come nearest to a wrong one.

    Args:
        name: What the user wrote.
        valid: All names that would be right.

    Returns:
        A clause for an error message: the near matches, or every valid name if there are at most ten.
    """
    names = list(valid)
    near = get_close_matches(str(name), names, n=5, cutoff=0.5)
    if near:
        return f'did you mean {", ".join(map(repr, near))}?'
    return f'valid: {first_of(list(map(repr, names)), 10)}'
