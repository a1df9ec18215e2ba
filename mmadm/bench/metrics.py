"""The scores that results are told in: what mmseg and mmdet call them, and what they are called in tables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        name: What tables call it, in percent.
        key: What the evaluator logs, without a role.
        factor: Makes percent of what is logged.
    """

    name: str
    key: str
    factor: float


# The first that a run logged is its main one. mmdet rounds to three digits, so to a tenth of a percent.
METRICS = (
    Metric('mIoU', 'mIoU', 1.0),
    Metric('AP', 'coco/bbox_mAP', 100.0),
    Metric('AP50', 'coco/bbox_mAP_50', 100.0),
)
TASKS = {'mIoU': 'segmentation', 'AP': 'detection'}
_CLASS_KEY = re.compile(r'(?:(?P<role>[^/]+)/)?coco/(?P<name>.+)_precision')


def role_scores(metrics: Mapping[str, Any], stock_role: str = 'student') -> dict[str, dict[str, float]]:
    """Scores in percent by metric and role.

    Args:
        metrics: Logged metrics, ``student/mIoU`` style from a role-wise validation or a bare ``mIoU``.
        stock_role: The role to which a bare one belongs.

    Returns:
        ``{metric: {role: percent}}`` in the order of ``METRICS``, without what was not logged.
    """
    scores: dict[str, dict[str, float]] = {}
    for metric in METRICS:
        for key, value in metrics.items():
            if key == metric.key or key.endswith(f'/{metric.key}'):
                role = key.removesuffix(metric.key).rstrip('/') or stock_role
                scores.setdefault(metric.name, {})[role] = metric.factor * float(value)
    return scores


def class_scores(metrics: Mapping[str, Any], log: str, stock_role: str = 'student') -> dict[str, dict[str, float]]:
    """The main score in percent by role and class, for classes that have one.

    Args:
        metrics: Logged metrics; mmdet's ``CocoMetric`` with ``classwise=True`` has ``<class>_precision`` among them.
        log: A log whose last table by class counts: the only place where mmseg's ``IoUMetric`` leaves it.
        stock_role: The role to which values without a role belong.
    """
    by_role: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        found = _CLASS_KEY.fullmatch(key)
        if found and not math.isnan(value):  # no box of the class
            by_role.setdefault(found['role'] or stock_role, {})[found['name']] = 100 * float(value)
    table = log.rpartition('per class results')[2]
    rows = re.findall(r'^\|\s*(\S[^|]*?)\s*\|\s*([\d.]+|nan)\s*\|.*$', table, flags=re.MULTILINE)
    by_class = {name: float(value) for name, value in rows if value != 'nan'}
    return by_role or ({stock_role: by_class} if by_class else {})
