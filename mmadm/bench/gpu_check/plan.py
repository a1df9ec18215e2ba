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
        where: Module, colon and function that takes a ``Setting`` and a ``Report``.
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
        found: Callable[[Setting, Report], None] = getattr(import_module(module), name)
        return found


def _part(name: str, title: str, where: str, seconds: float, alone: bool = False) -> Part:
    return Part(name, title, f'mmadm.bench.gpu_check.{where}', seconds, alone)


#: Run only if it is asked for, with an hour of its own: it needs data, and trains more than a dozen methods
SUITE = _part('suite', 'Suite of the benchmark', 'suite:suite', 3600, True)
#: Those that may run side by side come first; most valuable first in both halves. Together at most eight minutes, if
#: the first half has a processor for each
PARTS = (
    _part('machine', 'Machine', 'machine:machine', 60),
    _part('operators', 'Operators of mmcv', 'operators:operators', 60),
    _part('segmentation', 'Methods on segmentors', 'training:segmentation_methods', 100),
    _part('detection', 'Methods on detectors', 'training:detection_methods', 100),
    _part('families', 'Families of detectors', 'training:first_families', 100),
    _part('more_families', 'More families of detectors', 'training:other_families', 100),
    _part('precision', 'Mixed precision', 'precision:mixed_precision', 80),
    _part('one_rank', 'NCCL and SyncBN on one rank', 'ranks:one_rank', 60),
    _part('two_ranks', 'Two ranks on one GPU', 'ranks:two_ranks', 100),
    _part('resume', 'Resume after SIGKILL', 'resume:resumed', 100),
    _part('waits', 'Waits of a step', 'synchronisation:synchronisation', 80),
    _part('segmentation_cost', 'Cost of PSPNet', 'cost:segmentation_cost', 110, True),
    _part('detection_cost', 'Cost of RetinaNet', 'cost:detection_cost', 110, True),
    _part('loading', 'Data loader', 'loading:throughput', 40, True),
    _part('teacher', 'Frozen teacher', 'teacher:frozen_teacher', 120, True),
)
