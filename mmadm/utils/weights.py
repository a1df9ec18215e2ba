"""Read the weights of a stock checkpoint and load what fits of them into a network."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys

from mmadm.utils.allowed import weights_only, why_unreadable
from mmadm.utils.checkpoint import are_weights, read_checkpoint
from mmadm.utils.errors import CheckpointError, first_of


@dataclass(frozen=True)
class Misfit:
    """What a network and a checkpoint do not have in common.

    Attributes:
        missing: Keys of the network that the checkpoint lacks.
        reshaped: Shapes in the checkpoint and in the network by key.
        unknown: Keys of the checkpoint that the network lacks.
    """

    missing: tuple[str, ...] = ()
    reshaped: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def not_loaded(self) -> tuple[str, ...]:
        """Keys of the network that have kept their weights."""
        return (*self.missing, *self.reshaped)

    def among(self, keys: Collection[str]) -> Misfit:
        """Only what concerns some of the keys."""
        reshaped = {key: shapes for key, shapes in self.reshaped.items() if key in keys}
        missing, unknown = (tuple(key for key in part if key in keys) for part in (self.missing, self.unknown))
        return Misfit(missing, reshaped, unknown)

    def __bool__(self) -> bool:
        return bool(self.not_loaded or self.unknown)

    def __str__(self) -> str:
        shapes = [f'{key} ({theirs} in the file, {own} here)' for key, (theirs, own) in self.reshaped.items()]
        parts = (('Of another shape', shapes), ('Not in the file', self.missing), ('Only in the file', self.unknown))
        return '. '.join(f'{what}: {first_of(keys)}' for what, keys in parts if keys)


def read_weights(path: str, where: str) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Read the weights of a checkpoint file or URL and what it says of its training.

    Args:
        path: Local path, URL or any scheme that mmengine's loader knows.
        where: The config key to name in an error, such as ``model.roles.teacher.checkpoint``.

    Returns:
        Tensors by name, without a ``module.`` prefix but with the versions of modules (``_metadata``), and the entry
        ``meta``, empty if there is none.

    Raises:
        CheckpointError: If the file is missing, truncated, unreachable or holds no weights.
    """
    loaded = _read(path, where)
    state: Any = loaded.get('state_dict', loaded) if isinstance(loaded, Mapping) else None
    if not are_weights(state):
        raise CheckpointError(f'{where}={path!r} holds no state_dict.')
    meta = loaded.get('meta') if 'state_dict' in loaded else None
    return without_prefix(state, 'module'), meta if isinstance(meta, Mapping) else {}


def read_state_dict(path: str, where: str) -> dict[str, Tensor]:
    """Read only the weights, see :func:`read_weights`."""
    return read_weights(path, where)[0]


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take a prefix from the keys that have it and from the names of module versions.

    Versions have to stay: without them mmdet and mmcv take a file for one of 2020 and rename some of its keys.

    Args:
        state: A state dict.
        prefix: Without the dot at its end.
    """
    renamed: Any = OrderedDict((key.removeprefix(f'{prefix}.'), value) for key, value in state.items())
    versions = getattr(state, '_metadata', None)
    if versions is not None:  # a plain one has no _metadata
        renamed._metadata = OrderedDict(
            (f'{name}.'.removeprefix(f'{prefix}.')[:-1], version) for name, version in versions.items()
        )
    named: dict[str, Tensor] = renamed
    return named


def load_role_weights(model: Any, path: str, where: str) -> tuple[Mapping[str, Any], Misfit]:
    """Load what fits of a checkpoint into a stock model; the rest of the model is initialised as the toolbox does.

    Args:
        model: The role's network.
        path: See :func:`read_weights`.
        where: The config key to name in an error.

    Returns:
        What the checkpoint says of its training, and what did not fit.

    Raises:
        CheckpointError: If it cannot be read, or if it was made for another architecture.
    """
    state, meta = read_weights(path, where)
    misfit = load_fitting(model, state)
    if misfit.not_loaded:
        check_related(model.state_dict(), state, f'{where}={path!r}', misfit)
        model.init_weights()
        load_fitting(model, state)
    return meta, misfit


def load_fitting(model: nn.Module, state: Mapping[str, Tensor]) -> Misfit:
    """Load what fits, as mmengine's ``load_state_dict`` does, but return what does not instead of printing it.

    Args:
        model: A stock network.
        state: A state dict, with the versions of modules if they are known.
    """
    missing: list[str] = []
    unknown: list[str] = []
    errors: list[str] = []
    versions = getattr(state, '_metadata', None) or {}
    copy = dict(state)  # modules may rename keys in it

    def load(module: nn.Module, prefix: str) -> None:
        """Load one module, then those inside of it."""
        version = versions.get(prefix[:-1], {})
        module._load_from_state_dict(copy, prefix, version, True, missing, unknown, errors)
        for name, child in module._modules.items():
            if child is not None:
                load(child, f'{prefix}{name}.')
        for hook in module._load_state_dict_post_hooks.values():
            hook(module, _IncompatibleKeys(missing, unknown))

    load(model, '')
    found = (re.search(r'for (\S+): .*?Size\((.*?)\).*?Size\((.*?)\)', error) for error in errors)
    reshaped = {match[1]: (match[2], match[3]) for match in found if match}
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    return Misfit(tuple(missing), reshaped, tuple(dict.fromkeys(unknown)))


def check_related(own: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str, misfit: Misfit) -> None:
    """Refuse a checkpoint of another architecture: more than a head differs.

    Args:
        own: ``state_dict`` of the network.
        state: That of the checkpoint.
        what: The checkpoint, for the error.
        misfit: What did not fit.

    Raises:
        CheckpointError: If no weight fits, or fewer than do not, or if most of the backbone does not; biases and
            normalisations fit by chance.
    """
    weights = {key for key, value in own.items() if value.dim() > 1}
    fitting = weights - set(misfit.not_loaded)
    body = set(filter(_of_backbone, weights)) if any(map(_of_backbone, state)) else set()
    most = 2 * sum(own[key].numel() for key in body & fitting) >= sum(own[key].numel() for key in body)
    if most and len(fitting) > len(weights & set(misfit.reshaped)):
        return
    raise CheckpointError(
        f'{what}: of {len(own)} keys {len(misfit.missing)} are missing, {len(misfit.unknown)} unexpected and '
        f'{len(misfit.reshaped)} of another shape ({first_of([*misfit.missing, *misfit.unknown, *misfit.reshaped])}).'
        f'{_hint(own, state)}'
    )


def _of_backbone(key: str) -> bool:
    return key.startswith('backbone.')


def _read(path: str, where: str) -> Any:
    path = str(path)
    if '://' not in path:
        if not Path(path).expanduser().is_file():
            raise CheckpointError(f'{where}={path!r}: no such file. Give an existing checkpoint or a URL.')
        try:
            return read_checkpoint(path, needed=())
        except CheckpointError as error:
            raise CheckpointError(f'{where}={error}') from error
    try:
        with weights_only():
            return CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    except Exception as error:  # torch, zipfile, pickle and urllib each raise their own kind
        raise CheckpointError(
            f'{where}={path!r} {why_unreadable(error, path.rpartition("/")[2])}. '
            'Without a network pass the path of a complete local file.'
        ) from error


def _hint(own: Iterable[str], keys: Iterable[str]) -> str:
    """Say what kind of checkpoint it may be."""
    keys, own = list(keys), set(own)
    if any(key.startswith('roles.') for key in keys):
        return ' It is a full mmadm checkpoint: export one role with tools/export.py first.'
    for name in sorted({key.partition('.')[0] for key in keys}):  # 'architecture' and 'teacher' in those of mmrazor
        if len(own & {key.removeprefix(f'{name}.') for key in keys if key.startswith(f'{name}.')}) > len(own) // 2:
            return (
                f' It holds a network below {name!r}, as checkpoints of mmrazor do. To take it out: python -c "import '
                f"torch; s = torch.load(FILE, map_location='cpu')['state_dict']; torch.save({{'state_dict': "
                f"{{k[{len(name) + 1}:]: v for k, v in s.items() if k.startswith('{name}.')}}}}, 'stock.pth')\""
            )
    return ' It was made for another architecture.'
