"""How the weight of a distiller changes during training."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from mmadm.utils.errors import ConfigError, require_dict, require_numbers

Warmup = Literal['constant', 'linear', 'exponential']


class WeightSchedule:
    """A factor between 0 and 1 on all losses of a distiller.

    Args:
        warmup: ``constant`` (1 from the start), ``linear``, or ``exponential``: ``exp(-5 (1 - i / length)^2)``
            (methods.md, section 3).
        length: Iterations until the factor is 1.
        stop: From this iteration on the distiller is off: neither its losses nor a frozen teacher are computed.
        by_epoch: Whether ``length`` and ``stop`` are numbers of epochs; the factor then stays for an epoch.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(
        self, warmup: Warmup = 'constant', length: int = 0, stop: int | None = None, by_epoch: bool = False
    ) -> None:
        if warmup not in get_args(Warmup):
            raise ConfigError(f'schedule.warmup={warmup!r}: must be one of {get_args(Warmup)}')
        if warmup != 'constant' and length < 1:
            raise ConfigError(f'schedule.length={length}: a {warmup} warm-up needs at least 1 iteration or epoch')
        if stop is not None and stop < 1:
            raise ConfigError(f'schedule.stop={stop}: must be an iteration or epoch above 0, or None')
        self.warmup = warmup
        self.length = length
        self.stop = stop
        self.by_epoch = by_epoch

    @classmethod
    def from_cfg(cls, cfg: dict[str, Any] | None) -> WeightSchedule:
        """Build from ``schedule=dict(...)``; None means constant."""
        if cfg is not None:
            require_dict('schedule', cfg, "dict(warmup='linear', length=500)")
            require_numbers('schedule', cls, cfg)
        try:
            return cls(**(cfg or {}))
        except TypeError as error:
            raise ConfigError(f'schedule={cfg}: takes warmup, length, stop and by_epoch ({error})') from error

    def over(self, iteration: int, epoch: int = 0) -> bool:
        """Whether the distiller is off for good."""
        return self.stop is not None and (epoch if self.by_epoch else iteration) >= self.stop

    def __call__(self, iteration: int, epoch: int = 0) -> float:
        """Return the factor at an iteration and epoch (both from 0); 0 from ``stop`` on."""
        if self.over(iteration, epoch):
            return 0.0
        now = epoch if self.by_epoch else iteration
        if self.warmup == 'constant' or now >= self.length:
            return 1.0
        progress = now / self.length
        return progress if self.warmup == 'linear' else math.exp(-5 * (1 - progress) ** 2)
