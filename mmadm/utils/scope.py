"""Which toolbox unqualified names in configs belong to."""

from __future__ import annotations

from itertools import count

from mmengine.registry import DefaultScope

_number = count()


def use_scope(scope: str | None) -> None:
    """Let unqualified names be those of a toolbox from now on.

    mmengine's ``init_default_scope`` does this too, but warns whenever another toolbox was used before.

    Args:
        scope: Such as ``mmseg``; by default that of mmengine.
    """
    scope = scope or 'mmengine'
    current = DefaultScope.get_current_instance()
    if current is None or current.scope_name != scope:
        DefaultScope.get_instance(f'mmadm{next(_number)}', scope_name=scope)
