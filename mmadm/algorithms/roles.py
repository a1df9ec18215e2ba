"""Build the roles: stock networks by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import ConfigDict
from mmengine.model import BaseDataPreprocessor
from torch import nn

from mmadm.adapters import Adapter, build_adapter, refuse_unsuited
from mmadm.algorithms.preprocessor import mixing_of
from mmadm.registry import MODELS
from mmadm.utils.config import role_model_cfg, without_pretrained
from mmadm.utils.errors import ConfigError, cause_of, near_matches, require_dict, require_list
from mmadm.utils.optim_config import ROLE_OPTIMISER_KEYS, SHARED_OPTIMISER_KEYS
from mmadm.utils.random import role_stream
from mmadm.utils.weights import Misfit, load_role_weights

#: keys that stand beside the roles in ``optim_wrapper`` and in its state
RESERVED = (*SHARED_OPTIMISER_KEYS, *ROLE_OPTIMISER_KEYS, 'loss_scaler')


@dataclass(frozen=True)
class Origin:
    """Where a role's weights come from.

    Attributes:
        checkpoint: File or URL.
        meta: What the checkpoint says of its training; empty if nothing.
        data_preprocessor: Config of the preprocessor that the role has here; empty if it has none.
        misfit: What of the checkpoint the network did not take, and the other way round.
    """

    checkpoint: str
    meta: Mapping[str, Any]
    data_preprocessor: Mapping[str, Any]
    misfit: Misfit = field(default_factory=Misfit)


def check_names(roles: Mapping[str, Any], frozen: Sequence[str], deploy: str) -> None:
    """Check that frozen and deploy name roles and that something is left to train.

    Raises:
        ConfigError: If not, if a role is no dict, or if ``frozen`` is a string.
    """
    if not roles or not isinstance(roles, Mapping):
        raise ConfigError(
            f'model.roles must be a dict with at least one role, such as dict(student=dict(cfg=...)); found '
            f'{"an empty" if not roles else "a"} {type(roles).__name__}'
        )
    require_list('model.frozen', frozen)
    for key, name in [*(('model.frozen', name) for name in frozen), ('model.deploy', deploy)]:
        if not isinstance(name, str) or name not in roles:
            raise ConfigError(f'{key}={name!r} is not a role; {near_matches(name, roles)}')
    if set(roles) == set(frozen):
        raise ConfigError(f'model.frozen={list(frozen)}: every role is frozen, nothing would be trained')
    for name, cfg in roles.items():
        require_dict(f'model.roles.{name}', cfg, f'dict(cfg={cfg!r})' if isinstance(cfg, str) else 'dict(cfg=...)')
        if '.' in name or not name:
            raise ConfigError(f'model.roles.{name}: a role name must not be empty or hold a dot')
        if name in RESERVED:
            raise ConfigError(f'model.roles.{name}: the name is a key of optim_wrapper; choose another')


def build_roles(
    roles: Mapping[str, Mapping[str, Any]], data_preprocessor: Mapping[str, Any] | None = None
) -> tuple[nn.ModuleDict, dict[str, Adapter], dict[str, BaseDataPreprocessor], dict[str, Origin]]:
    """Build every role's stock model and load what fits of its checkpoint.

    Args:
        roles: Role configs by name, see :func:`~mmadm.utils.config.role_model_cfg`.
        data_preprocessor: For roles that name none.

    Returns:
        The networks, their adapters, their preprocessors (one object where configs are equal) and the origins of the
        loaded roles.

    Raises:
        ConfigError: If a config is not usable.
        CheckpointError: If a checkpoint cannot be read or is of another architecture.
    """
    built = nn.ModuleDict()
    origins: dict[str, Origin] = {}
    adapters: dict[str, Adapter] = {}
    shared: list[tuple[Any, BaseDataPreprocessor]] = []
    preprocessors: dict[str, BaseDataPreprocessor] = {}
    for index, (name, role_cfg) in enumerate(roles.items()):
        try:
            cfg = role_model_cfg(role_cfg)
        except ConfigError as error:
            raise ConfigError(f'model.roles.{name}: {error}') from error
        if data_preprocessor is not None:
            cfg.setdefault('data_preprocessor', dict(data_preprocessor))
        checkpoint = role_cfg.get('checkpoint')
        with role_stream(index):
            built[name] = _build_stock(name, without_pretrained(cfg) if checkpoint else cfg)
        adapters[name] = build_adapter(name, built[name])
        if checkpoint:
            with role_stream(index):  # what the checkpoint lacks is initialised
                meta, misfit = load_role_weights(built[name], checkpoint, f'model.roles.{name}.checkpoint')
            origins[name] = Origin(str(checkpoint), meta, cfg.get('data_preprocessor') or {}, misfit)
        own = built[name].data_preprocessor
        # a model may have a kind of its own, or give it more options (MMPretrain)
        wanted = cfg.get('data_preprocessor'), type(own), mixing_of(own)
        for known, preprocessor in shared:
            if known == wanted:
                preprocessors[name] = preprocessor
                break
        else:
            preprocessors[name] = own
            shared.append((wanted, own))
    return built, adapters, preprocessors, origins


def _build_stock(name: str, cfg: dict[str, Any]) -> nn.Module:
    try:
        refuse_unsuited(cfg)
        # ConfigDict, as a Runner would pass: stock models read `test_cfg.mode` as an attribute
        return MODELS.build(ConfigDict(cfg))
    except ConfigError as error:
        raise ConfigError(f'model.roles.{name}: {error}') from error
    except Exception as error:  # whatever a network says that cannot be built alone either
        if isinstance(error, KeyError) and 'registry' in str(error):
            raise ConfigError(
                f'model.roles.{name}: {error.args[0].splitlines()[0]} A role is a model of MMSegmentation or '
                "MMDetection: is it installed, and is default_scope='mmseg' or 'mmdet' set?"
            ) from error
        raise ConfigError(f'model.roles.{name}: {cfg.get("type")} cannot be built: {cause_of(error)}') from error
