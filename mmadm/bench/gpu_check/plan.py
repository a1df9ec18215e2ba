"""The parts, their order and their time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from mmadm.bench.gpu_check.report import Report, Setting


@dataclass(frozen=True)
class Part:
    """Something that has to be found out.

    Attributes:
        name: In options and files.
        title: In tables.
        where: Module of this package, and function that takes a ``Setting`` and a ``Report``.
        seconds: Time that it may take.
        alone: Whether nothing else may run meanwhile, as it measures times.
    """

    name: str
    title: str
    where: str
    seconds: float
    alone: bool = False

    def function(self) -> Callable[[Setting, Report], None]:
        """What runs it."""
        module, _, name = self.where.partition(':')
        return getattr(import_module(f'mmadm.bench.gpu_check.{module}'), name)


#: Those that may run side by side come first; most valuable first in both halves
PARTS = (
    Part('machine', 'Machine', 'machine:machine', 60),
    Part('operators', 'Operators of mmcv', 'operators:operators', 60),
    Part('segmentation', 'Methods on segmentors', 'training:segmentation_methods', 100),
    Part('detection', 'Methods on detectors', 'training:detection_methods', 100),
    Part('families', 'Families of detectors', 'training:first_families', 100),
    Part('more_families', 'More families of detectors', 'training:other_families', 100),
    Part('precision', 'Mixed precision', 'precision:mixed_precision', 80),
    Part('one_rank', 'NCCL and SyncBN on one rank', 'ranks:one_rank', 60),
    Part('two_ranks', 'Two ranks on one GPU', 'ranks:two_ranks', 100),
    Part('resume', 'Resume after SIGKILL', 'resume:resumed', 100),
    Part('waits', 'Waits of a step', 'synchronisation:synchronisation', 80),
    Part('segmentation_cost', 'Cost of PSPNet', 'cost:segmentation_cost', 75, True),
    Part('detection_cost', 'Cost of RetinaNet', 'cost:detection_cost', 75, True),
    Part('teacher', 'Frozen teacher', 'teacher:frozen_teacher', 75, True),
    Part('loading', 'Data loader', 'loading:throughput', 40, True),
)
