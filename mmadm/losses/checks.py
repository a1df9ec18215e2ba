"""Options of a loss that cannot work fail while the config is read."""

from __future__ import annotations

from mmadm.utils.errors import ConfigError


def checked_tau(loss: str, tau: float) -> float:
    """Return a loss's temperature; ConfigError unless it is positive."""
    if tau <= 0:
        raise ConfigError(f'{loss}.tau={tau!r}: a temperature must be above 0')
    return tau
