"""Roles of which only some modules learn, such as the bridge of SOKD."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmadm.utils.errors import ConfigError, near_matches


def freeze_all_but(name: str, role: nn.Module, train: Sequence[str]) -> None:
    """Take the gradient from everything but some modules.

    Args:
        name: The role's name.
        role: Its network.
        train: Paths of the modules that learn.

    Raises:
        ConfigError: If there is no such module, or it has nothing to learn.
    """
    modules = dict(role.named_modules())
    for path in train:
        if not isinstance(path, str) or path not in modules or not path:
            raise ConfigError(
                f'model.roles.{name}.train: no module {path!r}; {near_matches(path, filter(None, modules))}'
            )
        if not any(True for _ in modules[path].parameters()):
            raise ConfigError(f'model.roles.{name}.train: module {path!r} has no parameters to learn')
    role.requires_grad_(False)
    for path in train:
        modules[path].requires_grad_(True)


def set_mode(role: nn.Module, train: Sequence[str], mode: bool) -> None:
    """Set the mode of a role; what does not learn stays in eval as a whole (law 5)."""
    role.train(mode and not train)
    for path in train:
        role.get_submodule(path).train(mode)
