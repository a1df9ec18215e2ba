"""Networks of the toolboxes that are no role, because they are more than one network that sees a batch of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmadm.registry import MODELS
from mmadm.utils.errors import ConfigError
from mmadm.utils.optim_config import type_name

#: Why not, and what to do instead, by a class that they are derived from
_REASONS = {
    'BaseMOTModel': 'follows objects through clips of a video, which no distiller compares; make its detector a role '
    '(the part `detector` of its config), and train that on images',
    'KnowledgeDistillationSingleStageDetector': 'distils by itself, from a teacher in its own config; give the two '
    'detectors as roles, such as override=dict(type=...) with their plain kind, and mmadm.LD as distiller',
    'SemiBaseDetector': 'is two detectors by itself, on batches with and without labels; make its part `detector` a '
    'role',
}


def refuse_unsuited(cfg: Mapping[str, Any]) -> None:
    """Refuse a network that is no role before it is built.

    Args:
        cfg: Config of its model.

    Raises:
        ConfigError: If it follows objects through videos, or is a distiller or a pair of networks itself.
    """
    kind = cfg.get('type')
    with MODELS.switch_scope_and_registry(cfg.get('_scope_')) as registry:
        made = registry.get(kind) if isinstance(kind, str) else kind
    for base in getattr(made, '__mro__', ()):
        if base.__name__ in _REASONS and base.__module__.startswith('mmdet.'):
            raise ConfigError(f'{type_name(kind or "")} {_REASONS[base.__name__]}')
