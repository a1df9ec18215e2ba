"""Frozen roles: what only they may be, and how they get faster with what they teach within a stated tolerance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from mmadm.adapters import FeatureTeacher
from mmadm.utils.errors import ConfigError

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def check_teaches_only(roles: Any, frozen: Sequence[str], deploy: str) -> None:
    """Refuse a backbone alone as a role that learns or predicts.

    Args:
        roles: The networks by name.
        frozen: Names of roles that only teach.
        deploy: The role that predicts.

    Raises:
        ConfigError: If a ``FeatureTeacher`` should do more than teach.
    """
    for name in (name for name, role in roles.items() if isinstance(role, FeatureTeacher)):
        if name not in frozen or name == deploy:
            key = 'model.deploy' if name == deploy else f'model.roles.{name}'
            raise ConfigError(
                f'{key}: {name!r} is a mmadm.FeatureTeacher, a backbone alone, which only teaches: list it in '
                'model.frozen and deploy another role'
            )


def teacher_precision(name: str | None) -> torch.dtype | None:
    """Translate ``model.teacher_dtype``.

    Raises:
        ConfigError: If it is not a known precision.
    """
    if name is None:
        return None
    if name not in DTYPES:
        raise ConfigError(f'model.teacher_dtype={name!r}: must be one of {", ".join(map(repr, DTYPES))}, or None')
    return DTYPES[name]


def lowered(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[None]:
    """Run a frozen role in another precision than the trainable ones; float32 also switches their AMP off for it.

    Args:
        dtype: What :func:`teacher_precision` returned; None leaves everything as it is.
        device: Where the role runs.
    """
    if dtype is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def compile_around(model: nn.Module, tapped: Iterable[str]) -> None:
    """Compile every largest part of a network that neither is nor holds a tapped module.

    Taps are read by hooks that come and go with each step, and these must stay outside of what is compiled. Keys of
    the state dict do not change.

    Args:
        model: A frozen role.
        tapped: Module paths of its taps.
    """
    paths = set(tapped)
    for name, child in model.named_children():
        inside = {path.partition('.')[2] for path in paths if path.partition('.')[0] == name}
        if not inside:
            if any(True for _ in child.parameters()):
                child.compile()
        elif '' not in inside or len(inside) > 1 or any(True for _ in child.children()):
            compile_around(child, inside - {''})
