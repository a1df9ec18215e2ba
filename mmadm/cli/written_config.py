"""The config that ``mmadm distill`` writes: the student's training config and, below it, only the differences."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.runner import Runner

from mmadm.cli.config_text import Raw, statement
from mmadm.cli.methods_table import METHODS, NONE, EachLevel
from mmadm.cli.networks import Network
from mmadm.cli.plan import Plan, bridge_role
from mmadm.cli.runtime import role_settings
from mmadm.utils.errors import ConfigError, near_matches
from mmadm.utils.optim_config import RECIPE_KEYS

_CONSTRUCTOR = 'mmadm.RoleOptimWrapperConstructor'
_BASE_MODEL = Raw('{{_base_.model}}')


def differences(
    plan: Plan, student: Network, teacher: Network | None, checkpoints: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    """What the config says beyond its base.

    Args:
        plan: What was chosen.
        student: The student.
        teacher: The teacher, if there is one.
        checkpoints: Files or URLs by role.
        folder: Where the config will lie.
    """
    roles = {}
    for role, network in (('student', student), ('teacher', teacher)):
        if network is not None:
            cfg = _BASE_MODEL if role == 'student' else reference(network.name, folder)
            override = {'override': plan.overrides[role]} if role in plan.overrides else {}
            trained = {'checkpoint': reference(checkpoints[role], folder)} if role in checkpoints else {}
            roles[role] = {'cfg': cfg, **override, **trained}
    model: dict[str, Any] = {'_delete_': True, 'type': 'mmadm.Distillation', 'roles': roles}
    if METHODS[plan.method].teacher == NONE:
        network = roles.pop('student')
        roles.update(dict.fromkeys((*plan.distillers[-1]['students'], plan.distillers[-1]['leader']), network))
        model['deploy'] = plan.distillers[-1]['leader']
    elif 'bridge' in plan.distillers[-1]:
        assert teacher is not None
        roles['bridge'] = bridge_role(teacher)
    if plan.frozen:
        model['frozen'] = ['teacher']
    model['distillers'] = plan.distillers
    learners = [role for role in roles if role not in model.get('frozen', ())]
    found: dict[str, Any] = {'model': model, 'optim_wrapper': _optimisers(student, teacher, learners, plan.notes)}
    if plan.method == 'switokd':
        found['find_unused_parameters'] = True
    return {**found, **role_settings({**student.cfg.to_dict(), 'model': model})}


def _optimisers(student: Network, teacher: Network | None, learners: Iterable[str], notes: list[str]) -> dict[str, Any]:
    """Every role by the student's recipe, but a teacher that learns by its own; says where they differ."""
    if 'optim_wrapper' not in student.cfg:
        raise ConfigError(f'STUDENT {student.name}: has no `optim_wrapper`; give a training config')
    common = student.cfg.optim_wrapper.to_dict()
    wrapper: dict[str, Any] = {'constructor': _CONSTRUCTOR}
    for role in learners:
        # a constructor beside the roles is mmadm's own
        entry = {'constructor': common['constructor']} if 'constructor' in common else {}
        own = teacher.cfg.get('optim_wrapper') if role == 'teacher' and teacher is not None else None
        if own is not None and _recipe(own) != _recipe(common):
            entry = {key: value for key, value in _recipe(own).items() if value != common.get(key)}
            notes.append(f'{role}: by the optimiser of its own config, {own["optimizer"]}')
        elif role == 'bridge':
            entry['optimizer'] = {'lr': common['optimizer']['lr'] / 10}  # it starts where the teacher ended
            notes.append(f'{role}: a tenth of the learning rate, since it starts from trained weights')
        if entry:
            wrapper[role] = entry
    return wrapper


def _recipe(wrapper: Mapping[str, Any]) -> dict[str, Any]:
    """What of an ``optim_wrapper`` is about one network; None stands for what is not there."""
    found = {key: wrapper.get(key) for key in RECIPE_KEYS}
    return {**found, **({'constructor': wrapper['constructor']} if 'constructor' in wrapper else {})}


def reference(name: str, folder: Path) -> str | Raw:
    """How a config in a folder names a file: by its way from there, so that it works from everywhere.

    Args:
        name: A path, ``pkg::path`` or URL.
        folder: Folder of the config.
    """
    if '::' in name or '://' in name:
        return name
    path = Path(name).expanduser().resolve()
    way = os.path.relpath(path, folder.resolve())
    # a long way up says less than the path itself
    return path.as_posix() if way.count('..') > 3 else f'{{{{fileDirname}}}}/{Path(way).as_posix()}'


def base_of(student: Network, out: Path) -> tuple[str, str | None]:
    """What ``_base_`` is.

    Args:
        student: The student.
        out: The config that will inherit.

    Returns:
        The value, and the text of a file that must be written beside the config: the whole student config, where
        mmengine cannot inherit from it. That is so for ``pkg::`` names on the onedl forks and beside a setuptools
        without pkg_resources, for configs of a checkout, and for the new style with ``read_base()``.
    """
    beside = f'{out.stem}_base.py'
    if '::' in student.name:
        package = student.name.partition('::')[0]
        try:
            distribution(MODULE2PACKAGE.get(package, package))
        except PackageNotFoundError:
            return beside, student.cfg.pretty_text
        by_name = '.mim' in student.path.parts and find_spec('pkg_resources')
        return (student.name, None) if by_name else (beside, student.cfg.pretty_text)
    if 'read_base' in student.path.read_text(encoding='utf-8'):
        return beside, student.cfg.pretty_text
    return Path(os.path.relpath(student.path.resolve(), out.parent.resolve())).as_posix(), None


def apply_settings(found: dict[str, Any], base: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``--set`` into the differences.

    Args:
        found: The differences.
        base: The student's config.
        settings: Values by dotted key. A list of the base can only be replaced as a whole, so it is written out.

    Raises:
        ConfigError: If a key does not fit what stands there.
    """
    merged = deepcopy(found)
    known = {*base.keys(), *found, *signature(Runner).parameters, 'auto_scale_lr', 'custom_imports', 'tta_model'}
    for key, value in settings.items():
        if key.partition('.')[0] not in known:
            raise ConfigError(
                f'--set {key}={value}: no key of a training config; {near_matches(key.partition(".")[0], known)}. '
                'Settings of the method are model.distillers.0.<option>'
            )
        own = Config({'it': merged})
        try:
            if key.partition('.')[0] == 'model':
                own.merge_from_dict({f'it.{key}': value}, allow_list_keys=True)
            else:
                full = Config(base.to_dict())
                full.merge_from_dict({key: value}, allow_list_keys=True)
                own.merge_from_dict({'it': _way_to(key.split('.'), full.to_dict())})
        except (KeyError, TypeError, IndexError) as error:
            raise ConfigError(f'--set {key}={value}: does not fit ({" ".join(map(str, error.args))})') from error
        merged = own.it.to_dict()
    return merged


def _way_to(keys: list[str], node: Any) -> Any:
    """The value under dotted keys in as many dicts; all of a list that is on the way."""
    if not keys or not isinstance(node, Mapping):
        return node
    return {keys[0]: _way_to(keys[1:], node[keys[0]])}


def config_text(found: Mapping[str, Any], base: str, header: str, levels: int) -> str:
    """The text of a config.

    Args:
        found: The differences.
        base: Its ``_base_``.
        header: Comment on top, without ``#``.
        levels: Number of levels of the method's tap, by which weights for each level are multiplied.
    """
    lines = [f'# {line}\n' for line in header.splitlines()]
    lines += [statement(key, value) for key, value in {'_base_': base, **_weighed(found, levels)}.items()]
    return ''.join(lines)


def _weighed(value: Any, levels: int) -> Any:
    if isinstance(value, EachLevel):
        return Raw(f'{levels} * {float(value)!r}')
    if isinstance(value, Mapping):
        return {key: _weighed(item, levels) for key, item in value.items()}
    return [_weighed(item, levels) for item in value] if isinstance(value, list) else value
