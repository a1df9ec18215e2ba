"""Where a role's stock model config comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from copy import deepcopy
from difflib import SequenceMatcher, get_close_matches
from heapq import nlargest
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmadm.utils.errors import ConfigError, cause_of, near_matches, require_dict, require_list
from mmadm.utils.optim_config import type_name

#: Names in ``default_hooks`` behind which mmengine has a hook of its own
_OF_MMENGINE = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
_ROLE_KEYS = ('cfg', 'override', 'like', 'checkpoint', 'train', 'inherit', 'task_loss')


def read_config(path: str | Path) -> Config:
    """Read a config file; Windows paths in ``MMADM_DATA`` and ``MMADM_WEIGHTS`` are taken with slashes.

    mmengine writes the values of environment variables into the text of a config, where a backslash escapes.

    Args:
        path: Config file.
    """
    for name in [name for name in os.environ if name.startswith('MMADM_')]:
        os.environ[name] = os.environ[name].replace('\\', '/')
    return Config.fromfile(path)


def resolve_config(name: str | Path) -> Path:
    """Find a config file by path or by ``pkg::path/inside/its/configs.py``.

    mmengine's own ``pkg::`` may install the official package over a fork, so it is not used: this only looks.

    Args:
        name: A path, or a package name, ``::`` and a path below the package's ``.mim/configs``; below the ``configs``
            beside the package where it runs from a checkout.

    Returns:
        The path of an existing file.

    Raises:
        ConfigError: If the package is not installed or the file does not exist; names near matches.
    """
    package, found, inside = str(name).partition('::')
    if not found:
        path = Path(name).expanduser()
        if not path.is_file():
            near = get_close_matches(path.name, [file.name for file in path.parent.glob('*.py')], n=1)
            told = f'; did you mean {near[0]!r}?' if near else '.'
            raise ConfigError(f'cfg={str(name)!r}: no such file{told} Give a path, or pkg::path inside its configs.')
        return path
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f'cfg={str(name)!r}: package {package!r} is not installed.')
    folder = Path(spec.submodule_search_locations[0])
    root = folder / '.mim' / 'configs'
    if not root.is_dir():  # a checkout, where they lie beside the package
        root = folder.parent / 'configs'
    path = root / inside
    if not path.is_file():
        known = [p.relative_to(root).as_posix() for p in root.glob('*/*.py')]
        raise ConfigError(f'cfg={str(name)!r}: {package} has no config {inside!r}; {_near_configs(inside, known)}')
    return path


def _near_configs(name: str, known: list[str]) -> str:
    """Say which configs share most words with a name: by its letters alone a short name is near none."""
    words = {file: set(_words(file)) for file in known}
    every = set().union(*words.values())
    meant = {near for word in _words(name) for near in get_close_matches(word, every, n=1, cutoff=0.75)}
    if not meant:
        return near_matches(name, sorted({file.partition('/')[0] for file in known}))

    def likeness(file: str) -> tuple[int, float]:
        """Words in common, then letters; without the folder where the name has none."""
        letters = file if '/' in name else file.partition('/')[2]
        return len(words[file] & meant), SequenceMatcher(None, name, letters).ratio()

    return f'did you mean {", ".join(map(repr, nlargest(5, known, likeness)))}?'


def _words(file: str) -> list[str]:
    return re.findall('[a-z0-9]+', file.lower().removesuffix('.py'))


def role_model_cfg(role_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stock model dict of a role.

    Args:
        role_cfg: A full model dict (with ``type``), or ``dict(cfg=..., override=..., checkpoint=...)`` where ``cfg`` is
            what :func:`resolve_config` takes, or itself a model dict, and ``override`` is merged into the model as a
            child config would be; ``{'0': ...}`` reaches into a list.

    Returns:
        A new model dict that a registry can build. ``_scope_`` is set where the config file names a default scope.

    Raises:
        ConfigError: If neither form fits, the config file has no model, or ``override`` does not fit the model.
    """
    if 'type' in role_cfg:
        return _plain(role_cfg)
    model = _named_model(role_cfg)
    override = role_cfg.get('override')
    if not override:
        return model
    require_dict('override', override, 'dict(decode_head=dict(num_classes=3))')
    _check_parts('override', override, model)
    merged = Config(dict(model=model))
    try:
        merged.merge_from_dict(dict(model=override), allow_list_keys=True)
    except (KeyError, TypeError) as error:
        raise ConfigError(f'override={dict(override)}: {" ".join(map(str, error.args))}') from error
    return _plain(merged.model)


def _check_parts(where: str, override: Mapping[str, Any], model: Any) -> None:
    """Refuse to merge a dict into a part that is not there: most likely its name is misspelt."""
    for key, value in override.items():
        if not isinstance(value, Mapping) or not isinstance(model, Mapping) or value.get('_delete_'):
            continue
        if key not in model and 'type' not in value and not key.endswith('cfg'):
            raise ConfigError(f'{where}.{key}: the model has no such part; {near_matches(key, model)}')
        _check_parts(f'{where}.{key}', value, model.get(key))


def _named_model(role_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The model dict that a role's ``cfg`` names or is."""
    source = role_cfg.get('cfg')
    if isinstance(source, Mapping):
        return role_model_cfg(source)
    if not isinstance(source, str | Path):
        raise ConfigError(
            'a role is a model dict with `type`, or dict(cfg=<config path or pkg::config>, checkpoint=<file or URL>); '
            f'found the keys {sorted(role_cfg)}'
        )
    path = resolve_config(source)
    try:
        loaded = read_config(path)
    except Exception as error:  # a config is a program, and may import others
        raise ConfigError(f'cfg={str(source)!r} cannot be read as a config: {cause_of(error)}') from error
    if 'model' not in loaded:
        raise ConfigError(f'cfg={str(source)!r} has no `model`.')
    model = _plain(loaded.model)
    if scope := loaded.get('default_scope'):  # else that of the training counts
        model.setdefault('_scope_', scope)
    return model


def role_cfgs(roles: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Replace ``like='teacher'`` by what the other role says: network and checkpoint.

    Args:
        roles: The ``roles`` of a config.

    Returns:
        Role configs in the forms that :func:`role_model_cfg` takes.

    Raises:
        ConfigError: If there is no such role, or it is like another one itself; if a role has a key that would be
            ignored.
    """
    resolved = {}
    for name, cfg in roles.items():
        _check_keys(f'model.roles.{name}', cfg)
        other = cfg.get('like')
        if other is None:
            resolved[name] = cfg
            continue
        if not isinstance(other, str) or other not in roles or other == name or 'like' in roles[other]:
            others = [role for role in roles if role != name and 'like' not in roles[role]]
            raise ConfigError(
                f'model.roles.{name}.like={other!r}: not a role of its own; {near_matches(other, others)}'
            )
        copied = {'cfg': roles[other]} if 'type' in roles[other] else dict(roles[other])
        resolved[name] = {**copied, **{key: value for key, value in cfg.items() if key != 'like'}}
    return resolved


def without_pretrained(model_cfg: dict[str, Any]) -> dict[str, Any]:
    """Drop every ``pretrained`` and ``init_cfg`` of type Pretrained: a role checkpoint replaces them.

    Without this, a teacher loaded from a file would first download ImageNet weights only to overwrite them.
    """

    def clean(node: Any) -> Any:
        """Copy a node without what is dropped, at any depth."""
        if isinstance(node, list | tuple):
            return type(node)(clean(item) for item in node)
        if not isinstance(node, dict):
            return node
        init = node.get('init_cfg')
        drop = {'pretrained'}
        if isinstance(init, dict) and type_name(init.get('type', '')) in ('Pretrained', 'PretrainedInit'):
            drop.add('init_cfg')
        return {key: clean(value) for key, value in node.items() if key not in drop}

    cleaned: dict[str, Any] = clean(model_cfg)
    return cleaned


def _check_keys(where: str, role_cfg: Mapping[str, Any], known: tuple[str, ...] = _ROLE_KEYS) -> None:
    """Refuse options inside a model dict, unknown ones beside ``cfg`` or ``like``, and those of a wrong type."""
    if 'type' in role_cfg:
        for key in _ROLE_KEYS:
            if key in role_cfg:
                raise ConfigError(
                    f'{where}.{key}: stands in a model dict (one with `type`); write dict(cfg=<model dict>, '
                    'checkpoint=..., train=[...]), with _delete_=True if the model dict comes from a _base_ file'
                )
    elif 'cfg' in role_cfg or 'like' in role_cfg:
        for key in role_cfg:
            if key not in known:
                raise ConfigError(f'{where}.{key}: unknown; {near_matches(key, known)}')
        require_list(f'{where}.train', role_cfg.get('train'))
        inherited = role_cfg.get('inherit') or {}
        require_dict(f'{where}.inherit', inherited, "dict(teacher=['neck', 'bbox_head'])")
        for source, modules in inherited.items():
            require_list(f'{where}.inherit.{source}', modules)
        if not isinstance(role_cfg.get('task_loss', True), bool):
            raise ConfigError(f'{where}.task_loss={role_cfg["task_loss"]!r}: must be True or False')
        if isinstance(role_cfg.get('cfg'), Mapping):
            _check_keys(f'{where}.cfg', role_cfg['cfg'], known=('cfg',))


def _plain(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Copy to builtin dicts, so that nothing a builder pops is lost to the user's config."""
    return deepcopy(cfg.to_dict()) if isinstance(cfg, ConfigDict) else deepcopy(dict(cfg))


def drop_empty_hooks(cfg: Config) -> None:
    """Let ``None`` behind any name in ``default_hooks`` mean no hook; mmengine knows that of its own hooks alone.

    Args:
        cfg: Config; changed.
    """
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None and name not in _OF_MMENGINE]:
        del hooks[name]
