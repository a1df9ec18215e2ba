"""What stands in ``optim_wrapper``: for all roles together, for each role by itself, or in a role's own entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Hold for all roles together, because one backward pass serves them all
SHARED_OPTIMISER_KEYS = ('type', 'dtype', 'loss_scale', 'accumulative_counts')
#: Hold for each role by itself, beside the roles or in a role's own entry
RECIPE_KEYS = ('optimizer', 'paramwise_cfg', 'clip_grad')
#: What a role's own entry may hold; beside the roles ``constructor`` is mmadm's own
ROLE_OPTIMISER_KEYS = (*RECIPE_KEYS, 'constructor')


def type_name(kind: Any) -> str:
    """The bare name of a ``type`` in a config: a class, a name, one with its scope or a dotted path."""
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition('.')[2]


def role_optimiser(wrapper: Mapping[str, Any], role: str) -> dict[str, Any]:
    """The stock ``optim_wrapper`` of one role.

    Args:
        wrapper: ``optim_wrapper`` of a config with ``mmadm.RoleOptimWrapperConstructor``.
        role: Name of the role.

    Returns:
        What stands beside the roles, replaced key by key by what the role's own entry says. An ``optimizer`` without
        ``type`` there completes the common one.
    """
    common = {key: wrapper[key] for key in (*SHARED_OPTIMISER_KEYS, *RECIPE_KEYS) if key in wrapper}
    own = dict(wrapper.get(role) or {})
    optimizer = own.get('optimizer')
    if isinstance(optimizer, Mapping) and 'type' not in optimizer:
        own['optimizer'] = {**common.get('optimizer', {}), **optimizer}
    return {'type': 'OptimWrapper', **common, **own}
