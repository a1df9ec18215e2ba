"""From a method's name and two networks to roles and distillers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from mmadm.cli.methods_table import FROZEN, JOINS, LEARNS, METHODS, NONE, TEACHES, Method, Recipe
from mmadm.cli.networks import (
    TASKS,
    Network,
    class_count,
    classes_override,
    families,
    kind_of,
    published_weights,
)
from mmadm.utils.errors import ConfigError, near_matches

#: Modules of a bridge (SOKD) that learn, as far as a network has them
_TAIL = ('neck', 'encoder', 'decoder', 'decode_head', 'auxiliary_head', 'bbox_head', 'rpn_head', 'roi_head')


@dataclass(frozen=True)
class Plan:
    """What is going to be written.

    Attributes:
        method: Key of ``METHODS``.
        recipe: What was chosen for the student's kind of network.
        frozen: Whether the teacher stays as it is.
        distillers: Their configs.
        by_features: Methods for these networks that compare no class scores.
        overrides: What changes in the stock model of a role.
        notes: Sentences on what was chosen and why.
    """

    method: str
    recipe: Recipe
    frozen: bool
    distillers: list[dict[str, Any]]
    by_features: Sequence[str] = ()
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def by_class(self) -> bool:
        """Whether class scores are compared, so that the classes of both networks must be the same."""
        return any(map(compares_classes, self.distillers))

    def leave_classes(self, reason: str) -> bool:
        """Leave out what compares class scores, for a reason; returns whether the method's own distiller is left."""
        kept = [cfg for cfg in self.distillers if not compares_classes(cfg)]
        if not kept:
            return False
        left_out = ', '.join(cfg['type'] for cfg in self.distillers if cfg not in kept)
        self.notes.append(f'without {left_out}: {reason}')
        self.distillers[:] = kept
        return True


def compares_classes(cfg: Mapping[str, Any]) -> bool:
    """Whether a distiller looks at class scores, as those do that read what they need by themselves."""
    return 'at' not in cfg or 'logits' in re.split(r'\W+', str(cfg['at']))


def find_method(name: str) -> Method:
    """Look a method up; ConfigError with near matches if there is none."""
    if name not in METHODS:
        raise ConfigError(f'--method={name!r}: unknown; {near_matches(name, METHODS)}')
    return METHODS[name]


def make_plan(
    method: str,
    student: Network,
    teacher: Network | None,
    frozen: bool | None = None,
    trained: bool = False,
    classes: int | None = None,
    at: Sequence[str] = (),
) -> Plan:
    """Choose distillers and what has to change in the networks.

    Args:
        method: Name of the method.
        student: The student.
        teacher: The teacher, if there is one.
        frozen: Whether the teacher shall stay as it is; None for what the method does by default.
        trained: Whether the teacher has a checkpoint.
        classes: Number of classes that the user wants, by default the student's.
        at: Taps from the command line, see :func:`parse_taps`.

    Raises:
        ConfigError: If method, task, classes or teacher do not fit together.
    """
    known = find_method(method)
    recipe = _recipe(method, known, student)
    frozen = _teaching(method, known, teacher, frozen, trained)
    if classes is not None and classes < 1:
        raise ConfigError(f'--classes={classes}: must be at least 1')
    overrides, notes = {}, []
    wanted = classes or class_count(student.model)
    for role, network in (('student', student), ('teacher', teacher)):
        keeps = role == 'teacher' and trained and frozen
        if network is None or keeps or wanted is None or class_count(network.model) in (wanted, None):
            continue
        overrides[role] = classes_override(network.model, wanted)
        notes.append(f'{role}: {wanted} classes in place of {class_count(network.model)}')
    distillers = [deepcopy(cfg) for cfg in recipe.distillers]
    if at:
        if 'at' not in distillers[-1]:
            raise ConfigError(f'--at={" ".join(at)}: --method={method} reads class scores and boxes; leave it out')
        distillers[-1]['at'] = parse_taps(at)
    plan = Plan(method, recipe, frozen, distillers, _by_features(student), overrides, notes)
    if teacher is not None:
        _check_teacher(plan, student, teacher, None if 'teacher' in overrides else wanted)
        if known.teacher == TEACHES and not frozen:
            notes.append('teacher: learns too, by its task alone')
    return plan


def parse_taps(words: Sequence[str]) -> Any:
    """Read ``--at``: ``feats``, several taps, or ``student=TAP teacher=TAP``.

    Raises:
        ConfigError: If some words name a role and others do not.
    """
    named = [word.partition('=') for word in words if '=' in word]
    if not named:
        return words[0] if len(words) == 1 else list(words)
    if len(named) < len(words):
        raise ConfigError(f'--at={" ".join(words)}: give one tap for all roles, or ROLE=TAP for each')
    return {role: tap for role, _, tap in named}


def bridge_role(teacher: Network) -> dict[str, Any]:
    """Role of SOKD's bridge: the teacher's neck and heads, and the last stage where it is a module of a ResNet."""
    tail = [part for part in _TAIL if teacher.model.get(part)]
    stages = ['backbone.layer4'] if 'ResNe' in str(teacher.model['backbone'].get('type')) else []
    return {'like': 'teacher', 'train': [*(stages if teacher.task == 'segmentation' else []), *tail]}


def _teaching(method: str, known: Method, teacher: Network | None, frozen: bool | None, trained: bool) -> bool:
    """Whether the teacher is frozen; refuses what the method cannot do."""
    if known.teacher == NONE:
        if teacher is not None:
            raise ConfigError(f'--method={method} has no teacher, only copies of STUDENT: leave TEACHER out')
        return False
    if teacher is None:
        raise ConfigError(f'--method={method} needs a TEACHER: a path or pkg::name of its config')
    if known.teacher == LEARNS and frozen:
        offline = [name for name, other in METHODS.items() if other.teacher in (FROZEN, JOINS, TEACHES)]
        raise ConfigError(f'--method={method}: its teacher learns; methods for --frozen are {", ".join(offline)}')
    if known.teacher == FROZEN and frozen is False:
        raise ConfigError(f'--method={method}: its teacher is frozen, so --no-frozen does not go with it')
    if frozen is None:
        frozen = known.teacher in (FROZEN, TEACHES)
    if frozen and not trained:
        beside = ', or --no-frozen to train it at the same time' if known.teacher == TEACHES else ''
        file = published_weights(teacher) or 'FILE'
        raise ConfigError(
            f'--method={method}: a frozen teacher needs trained weights; give --teacher-checkpoint {file}{beside}'
        )
    return frozen


def _recipe(method: str, known: Method, student: Network) -> Recipe:
    kinds = families(student.model)
    found = known.recipe(kinds)
    if found is not None:
        return found
    fitting = [name for name, other in METHODS.items() if other.recipe(kinds)]
    if not fitting:
        raise ConfigError(f'STUDENT {student.name}: mmadm distill has no method for {TASKS[student.task]}')
    raise ConfigError(f'--method={method} is not for {kind_of(student.model)}; what fits: {", ".join(fitting)}')


def _by_features(student: Network) -> list[str]:
    kinds = families(student.model)
    chosen = {name: other.recipe(kinds) for name, other in METHODS.items() if other.teacher in (JOINS, TEACHES)}
    return [name for name, recipe in chosen.items() if recipe and not compares_classes(recipe.distillers[-1])]


def _check_teacher(plan: Plan, student: Network, teacher: Network, wanted: int | None) -> None:
    """Refuse a teacher of another task, or one whose class scores are of other classes than the student gets."""
    if student.task != teacher.task:
        raise ConfigError(
            f'TEACHER {teacher.name} is for {TASKS[teacher.task]}, STUDENT {student.name} for {TASKS[student.task]}: '
            'give a teacher of the same task'
        )
    has = class_count(teacher.model)
    if None in (has, wanted) or has == wanted or not plan.by_class:
        return
    fault = f'TEACHER {teacher.name} predicts {has} classes and the student {wanted}'
    if not plan.leave_classes(fault):
        raise ConfigError(
            f'--method={plan.method} compares class scores, but {fault}; methods that compare features: '
            f'{", ".join(plan.by_features)}'
        )
