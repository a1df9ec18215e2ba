"""Make frozen roles fast: lower precision and compilation. What they teach stays within a stated tolerance."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmadm.structures import RoleOutput
from mmadm.utils.errors import ConfigError

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


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


def scoring_lowered(output: RoleOutput, dtype: torch.dtype | None, device: torch.device) -> RoleOutput:
    """Let a frozen two-stage role score a learner's regions, which it does later, as :func:`lowered` as it ran.

    Args:
        output: What the role produced.
        dtype: See :func:`lowered`.
        device: Where the role runs.
    """
    score = output.on_rois
    if score is None:
        return output

    def on_rois(rois: Tensor, tap: str) -> Tensor:
        """Score regions in the role's own precision."""
        with lowered(dtype, device):
            return score(rois, tap)

    return replace(output, on_rois=on_rois)


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
