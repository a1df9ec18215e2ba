"""Mixed precision for several roles: one autocast, one gradient scaler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmadm.engine.optim.wrapper import RoleOptimWrapperDict
from mmadm.utils.errors import ConfigError

_DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


class ScaledOptimWrapper(OptimWrapper):
    """The optimiser of one role, whose gradients carry a loss scale shared with other roles.

    Stock ``AmpOptimWrapper`` updates the scale inside ``step``; the next role would then divide its gradients by
    another scale than they were multiplied with. Here the dict that owns the scaler updates it, after the last role.

    Attributes:
        loss_scaler: The shared scaler, handed over by ``AmpRoleOptimWrapperDict``.
    """

    loss_scaler: torch.amp.GradScaler

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Run the backward of the loss times the loss scale.

        Args:
            loss: Scalar.
            **kwargs: Arguments for ``Tensor.backward``.
        """
        super().backward(self.loss_scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Unscale, clip and step; the step is skipped if a gradient of this role is not finite.

        Args:
            **kwargs: Arguments for ``Optimizer.step``.
        """
        params = (param for group in self.optimizer.param_groups for param in group['params'])
        if all(param.grad is None for param in params):
            return  # a role that learns nothing in this iteration: the scaler would raise
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)


class AmpRoleOptimWrapperDict(RoleOptimWrapperDict):
    """The optimisers of all trainable roles in mixed precision, on any device that ``torch.autocast`` knows.

    The loss scaler works for float16 only; bfloat16 has the range of float32 and needs none.

    Args:
        loss_scale: As for stock ``AmpOptimWrapper``: ``'dynamic'``, a fixed number, or arguments for ``GradScaler``.
        dtype: ``'float16'``, ``'bfloat16'``, or None for what autocast takes on this device.
        **optim_wrappers: One ``ScaledOptimWrapper`` per role.

    Raises:
        ConfigError: If ``loss_scale`` or ``dtype`` is something else.
    """

    def __init__(
        self,
        loss_scale: str | float | dict[str, Any] = 'dynamic',
        dtype: str | torch.dtype | None = None,
        **optim_wrappers: ScaledOptimWrapper,
    ) -> None:
        super().__init__(**optim_wrappers)
        self.device_type = get_device()
        self.dtype = _parse_dtype(dtype, self.device_type)
        self.static_scale = float(loss_scale) if isinstance(loss_scale, (int, float)) else None
        self.loss_scaler = torch.amp.GradScaler(
            **{'device': self.device_type, 'enabled': self.dtype is torch.float16, **_scaler_kwargs(loss_scale)}
        )
        for member in self.values():
            member.loss_scaler = self.loss_scaler

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast the forward pass and hold back the exchange between ranks while gradients only accumulate.

        Args:
            model: The model in training.
        """
        with super().optim_context(model), torch.autocast(self.device_type, dtype=self.dtype):
            yield

    def step(self, **kwargs: Any) -> None:
        """Clip and step every role, then adapt the loss scale once.

        Args:
            **kwargs: Arguments for each ``Optimizer.step``.
        """
        super().step(**kwargs)
        self.loss_scaler.update(self.static_scale)

    def state_dict(self) -> dict[str, Any]:
        """State of every role by its name, and of the scaler under ``loss_scaler``."""
        return {**super().state_dict(), 'loss_scaler': self.loss_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of every role, and of the scaler if the checkpoint has one.

        Args:
            state_dict: What ``state_dict`` returned, here or without mixed precision; left unchanged.

        Raises:
            CheckpointError: If the checkpoint holds other roles than this run trains.
        """
        super().load_state_dict(state_dict)
        if state_dict.get('loss_scaler'):  # empty when saved with bfloat16
            self.loss_scaler.load_state_dict(state_dict['loss_scaler'])


def _parse_dtype(dtype: str | torch.dtype | None, device_type: str) -> torch.dtype:
    if dtype is None:
        return torch.get_autocast_dtype(device_type)
    name = str(dtype).removeprefix('torch.')
    if name not in _DTYPES:
        raise ConfigError(f'optim_wrapper.dtype: found {name!r}, need one of {list(_DTYPES)}')
    return _DTYPES[name]


def _scaler_kwargs(loss_scale: str | float | dict[str, Any]) -> dict[str, Any]:
    if loss_scale == 'dynamic':
        return {}
    if isinstance(loss_scale, dict):
        return loss_scale
    if isinstance(loss_scale, (int, float)):
        return {'init_scale': float(loss_scale)}
    raise ConfigError(
        f"optim_wrapper.loss_scale: found {loss_scale!r}, need 'dynamic', a number or a dict of GradScaler arguments"
    )
