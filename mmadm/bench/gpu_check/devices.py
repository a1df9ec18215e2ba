"""How devices are made to compute alike."""

from __future__ import annotations

import torch


def full_precision() -> None:
    """Switch TF32 off, which torch uses for convolutions by default: a CPU has no such thing."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
