"""The model behind a wrapper."""

from __future__ import annotations

from typing import Any

from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> Any:
    """The model itself: a wrapper such as DDP passes on calls but not attributes.

    Args:
        model: A model, alone or in a wrapper.
    """
    return model.module if is_model_wrapper(model) else model
