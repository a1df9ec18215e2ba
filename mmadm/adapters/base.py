"""What every adapter does: resolve taps, run a role for training or only up to its taps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from mmadm.adapters.blank_image import blank_image
from mmadm.adapters.taps import Tap, overwritten, split_levels, tapped
from mmadm.structures import RoleOutput
from mmadm.utils.errors import ConfigError, near_matches

#: Side in pixels of the larger blank image of a model that states no size: a pyramid's level 7 keeps 4 x 4 positions
LARGE_SIZE = 512


class Adapter(ABC):
    """Runs a stock model and reads its taps. The only kind of code that knows a model's inside.

    Args:
        name: The role's name, for error messages.
        named: Taps that have a name of their own.
    """

    def __init__(self, name: str, named: dict[str, Tap]) -> None:
        self.name = name
        self._named = named
        self._outgrew = False  # whether a dry run has needed the larger image

    def tap(self, model: nn.Module, name: str) -> Tap:
        """Find what a tap's name stands for.

        Args:
            model: The role's network.
            name: ``logits``, ``boxes`` (detection), ``feats`` (neck, else backbone) or any module path, each with an
                optional choice of levels such as ``feats[1:4]``.

        Raises:
            ConfigError: If there is no such module; lists near matches.
        """
        base, levels = split_levels(name)
        found = self._named.get(base, Tap((base,)))
        if base and all(_has_module(model, path) for path in found.paths):
            return replace(found, levels=levels)
        if base in {'logits', 'boxes', *self._named}:
            raise ConfigError(f'role {self.name!r}: {self._lacks(model, base)}')
        valid = [*self._named, *(path for path, _ in model.named_modules() if path)]
        raise ConfigError(f'role {self.name!r} has no tap {base!r}; {near_matches(base, valid)}')

    def paths(self, model: nn.Module, taps: Sequence[str]) -> list[str]:
        """Module paths that taps look at."""
        return [path for tap in taps for path in self.tap(model, tap).paths]

    def loss(self, model: nn.Module, inputs: Tensor, data_samples: list[Any], taps: Sequence[str]) -> RoleOutput:
        """Run the stock training forward pass.

        Args:
            model: The role's network, in training mode.
            inputs: Preprocessed images of shape (N, 3, H, W).
            data_samples: Stock data samples with ground truth.
            taps: Names of the taps to read.

        Returns:
            Task losses, taps and what is known of the ground truth.
        """
        with tapped(model, self._resolve(model, taps)) as collected:
            losses = model(inputs, data_samples, mode='loss')
        return RoleOutput(losses, self._reached(collected), **self._facts(model, inputs, data_samples))

    def features(
        self, model: nn.Module, inputs: Tensor, taps: Sequence[str], data_samples: list[Any] | None = None
    ) -> RoleOutput:
        """Run only as much of the network as the taps need: no loss, no head beyond the last tap.

        Args:
            model: The role's network, in eval mode.
            inputs: Preprocessed images of shape (N, 3, H, W).
            taps: Names of the taps to read.
            data_samples: Stock data samples; only their meta information is read.

        Returns:
            The taps, without gradient.

        Raises:
            ConfigError: If a module exists but is not called as a module, such as a whole decode head.
        """
        resolved = self._resolve(model, taps)
        parts = {path.partition('.')[0] for tap in resolved.values() for path in tap.paths}
        with torch.no_grad(), tapped(model, resolved) as collected:
            if parts == {'backbone'}:
                model.backbone(inputs)
            else:
                self._run_heads(model, model.extract_feat(inputs), data_samples, parts)
        return RoleOutput(taps=self._reached(collected), binary=self._binary(model))

    def probe(self, model: nn.Module, size: int, taps: Sequence[str]) -> RoleOutput:
        """Read taps on one blank square image, to learn channels and sizes before training.

        Warns of a tap that is read after another module has changed it in place.

        Args:
            model: The role's network, in eval mode.
            size: Side of the image in pixels. A network that does not take it gets one of the size that it states.
            taps: Names of the taps to read.

        Raises:
            ConfigError: If a tap does not exist, or no image goes through the network.
        """
        with overwritten(model, self._resolve(model, taps)) as changed:
            found = self._dry_run(model, (size, size), taps)
        for tap in sorted(changed):
            MMLogger.get_current_instance().warning(
                f'role {self.name!r}: what is read at tap {tap!r} is changed in place by a later module, such as '
                'ReLU(inplace=True): distillers see the changed value. Tap the module before it, or that later one.'
            )
        shapes = tuple(tuple(parameter.shape) for parameter in model.parameters())
        return replace(
            found, architecture=shapes, classes=self._class_channels(model), new_head=partial(self.new_head, model)
        )

    def new_head(self, model: nn.Module) -> nn.Module:
        """Make another head of the role's own kind, for features that are not the role's own.

        Raises:
            ConfigError: If this kind of model has none that stands alone.
        """
        raise ConfigError(
            f'role {self.name!r}: {type(model).__name__} has no head that can be made anew; segmentors with `conv_seg` '
            'and single-stage detectors have'
        )

    def _dry_run(self, model: nn.Module, size: tuple[int, int], taps: Sequence[str]) -> RoleOutput:
        """Read taps on a small blank image; on a larger one if that is too small for a network, or its size fixed."""
        own, failed = _own_size(model), None
        for shape in [own] if self._outgrew else [size, own]:
            try:
                return self._probe(model, shape, taps)
            except ConfigError:
                raise
            except Exception as error:  # networks fail in many ways; the larger image shows if the size is to blame
                failed, self._outgrew = error, True
        raise ConfigError(
            f'role {self.name!r}: no blank image goes through {type(model).__name__} up to {", ".join(taps)}, '
            f'neither of {size[0]} x {size[1]} pixels nor of {own[0]} x {own[1]} ({type(failed).__name__}: '
            f'{failed}). The latter is `data_preprocessor.size`, else `backbone.img_size`, else {LARGE_SIZE}: set '
            'these right if the network takes one size only, or tap another module.'
        ) from failed

    def _probe(self, model: nn.Module, size: tuple[int, int], taps: Sequence[str]) -> RoleOutput:
        return self.features(model, blank_image(model, size), taps)

    @abstractmethod
    def _lacks(self, model: nn.Module, tap: str) -> str:
        """Say why there is no tap ``logits``, ``boxes`` or another named one, and what to do."""

    @abstractmethod
    def _binary(self, model: nn.Module) -> bool:
        """Whether logits go through a sigmoid per class."""

    def _class_channels(self, model: nn.Module) -> int | None:
        """Channels K of class maps (N, K, h, w); None for a model that scores regions, queries or masks."""
        return None

    @abstractmethod
    def _facts(self, model: nn.Module, inputs: Tensor, data_samples: list[Any]) -> dict[str, Any]:
        """Fields of a RoleOutput that come from the data samples."""

    @abstractmethod
    def _run_heads(self, model: nn.Module, features: Any, data_samples: list[Any] | None, parts: set[str]) -> None:
        """Run the parts beyond the neck that hold a tap."""

    def _resolve(self, model: nn.Module, taps: Sequence[str]) -> dict[str, Tap]:
        return {tap: self.tap(model, tap) for tap in taps}

    def _reached(self, collected: dict[str, list[Tensor]]) -> dict[str, list[Tensor]]:
        for tap, tensors in collected.items():
            if not tensors:
                raise ConfigError(
                    f'role {self.name!r}: tap {tap!r} gave no tensor. Its module has no such level or is not called '
                    'as a module (a whole decode head never is): tap one of its children, `logits` or `feats`.'
                )
        return collected


def _own_size(model: Any) -> tuple[int, int]:
    """Height and width of the images that a network is trained on, else made for, else large enough for any."""
    size = getattr(model.data_preprocessor, 'size', None) or getattr(model.backbone, 'img_size', None) or LARGE_SIZE
    return (size, size) if isinstance(size, int) else tuple(size)


def _has_module(model: nn.Module, path: str) -> bool:
    """Whether a network has a module; asked in every step, so without a list of all modules."""
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True
