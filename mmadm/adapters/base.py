"""What every adapter does: resolve taps, run a role for training or only up to its taps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from mmengine.logging import MMLogger
from torch import Tensor, nn

from mmadm.adapters.blank_image import blank_image, blank_samples
from mmadm.adapters.detection import ground_truth, no_objects
from mmadm.adapters.taps import Reading, overwritten, stride_of, tapped
from mmadm.structures import BatchArea, GroundTruth, Kind, RoleFacts, RoleOutput, Tap, TapOutput
from mmadm.utils.errors import ConfigError, cause_of, near_matches

#: Side in pixels of the larger blank image of a model that states no size: a pyramid's level 7 keeps 4 x 4 positions
LARGE_SIZE = 512
_KINDS = {4: Kind.MAP, 3: Kind.TOKENS, 2: Kind.VECTORS}


class Adapter(ABC):
    """Runs a stock model and reads its taps. The only kind of code that knows a model's inside.

    ``@ADAPTERS.register_module()`` registers one; it is built with the role's name and its network.

    Args:
        name: The role's name, for error messages.
        named: Taps that have a name of their own.

    Attributes:
        priority: Of the adapters that fit a network the one with the highest is taken, of equals the one that was
            registered last. Those of mmadm have 0, the generic one -1.
    """

    priority: ClassVar[int] = 1

    def __init__(self, name: str, named: Mapping[str, Reading]) -> None:
        self.name = name
        self._named = dict(named)
        #: module paths that put out the very tensors of a named tap, such as the convolution that scores classes
        self._same_as: dict[str, str] = {}
        self._strides: dict[Tap, list[tuple[float, float] | None]] = {}  # what a dry run found
        self._outgrew = False  # whether a dry run has needed the larger image

    @classmethod
    @abstractmethod
    def fits(cls, model: nn.Module) -> bool:
        """Whether this is an adapter for a network."""

    def reading(self, model: nn.Module, tap: Tap) -> Reading:
        """Find what a tap stands for.

        Args:
            model: The role's network.
            tap: ``logits``, ``boxes`` (detection), ``feats`` (neck, else backbone) or any module path.

        Raises:
            ConfigError: If there is no such module; lists near matches.
        """
        base = self._same_as.get(tap.base, tap.base)
        found = self._named.get(base, Reading((base,)))
        if base and all(has_module(model, path) for path in found.paths):
            return found
        if base in {'logits', 'boxes', 'masks', *self._named}:
            raise ConfigError(f'role {self.name!r}: {self._lacks(model, base)}')
        valid = [*self._named, *(path for path, _ in model.named_modules() if path)]
        raise ConfigError(f'role {self.name!r} has no tap {base!r}; {near_matches(base, valid)}')

    def paths(self, model: nn.Module, taps: Iterable[Tap]) -> list[str]:
        """Module paths that taps look at."""
        return [path for tap in taps for path in self.reading(model, tap).paths]

    def loss(self, model: nn.Module, inputs: Tensor, data_samples: list[Any], taps: Sequence[Tap]) -> RoleOutput:
        """Run the stock training forward pass.

        Args:
            model: The role's network, in training mode.
            inputs: Preprocessed images of shape (N, C, H, W).
            data_samples: Stock data samples with ground truth.
            taps: The taps to read.

        Returns:
            Task losses, taps and what is known of the ground truth.
        """
        area = batch_area(inputs, data_samples)  # before the model runs: some edit their samples
        with tapped(model, self._readings(model, taps)) as collected:
            losses = model(inputs, data_samples, mode='loss')
        truth = self.truth(model, data_samples) if taps else GroundTruth()
        return RoleOutput(losses, self._tap_outputs(model, collected, area), area, truth, data_samples)

    def features(
        self, model: nn.Module, inputs: Tensor, taps: Sequence[Tap], data_samples: list[Any] | None = None
    ) -> RoleOutput:
        """Run only as much of the network as the taps need: no loss, no head beyond the last tap.

        Args:
            model: The role's network; in training mode if it learns from its taps alone.
            inputs: Preprocessed images of shape (N, C, H, W).
            taps: The taps to read.
            data_samples: Stock data samples; only their meta information is read.

        Returns:
            The taps.

        Raises:
            ConfigError: If a module exists but is not called as a module, such as a whole decode head.
        """
        with tapped(model, self._readings(model, taps)) as collected:
            self._run(model, inputs, data_samples, taps)
        samples = [] if data_samples is None else data_samples
        area = batch_area(inputs, samples)
        return RoleOutput(taps=self._tap_outputs(model, collected, area), area=area, data_samples=samples)

    def truth(self, model: nn.Module, data_samples: list[Any]) -> GroundTruth:
        """What the data samples know of what is true: by default the objects of each image, where they have some."""
        return ground_truth(data_samples)

    def score_regions(self, model: nn.Module, output: RoleOutput, rois: Tensor, tap: Tap) -> TapOutput:
        """Score regions (n, 5) that another role sampled; only two-stage networks can."""
        raise NotImplementedError(f'role {self.name!r}: {type(model).__name__} scores no regions')

    def scores_regions(self, tap: Tap) -> bool:
        """Whether a tap is of the regions that a learner samples, so that two roles need the same ones."""
        return False

    def probe(self, model: nn.Module, size: int, taps: Sequence[Tap]) -> RoleFacts:
        """Read taps on one blank square image, to learn channels, sizes and strides before training.

        Warns of a tap that is read after another module has changed it in place.

        Args:
            model: The role's network, in eval mode.
            size: Side of the image in pixels. A network that does not take it gets one of the size that it states.
            taps: The taps to read.

        Raises:
            ConfigError: If a tap does not exist, or no image goes through the network.
        """
        with overwritten(model, self._readings(model, taps)) as changed:
            found = self._dry_run(model, (size, size), taps)
        for tap in sorted(map(str, changed)):
            MMLogger.get_current_instance().warning(
                f'role {self.name!r}: what is read at tap {tap!r} is changed in place by a later module, such as '
                'ReLU(inplace=True): distillers see the changed value. Tap the module before it, or that later one.'
            )
        self._strides.update({tap: list(output.strides) for tap, output in found.taps.items()})
        shapes = tuple(tuple(parameter.shape) for parameter in model.parameters())
        heads = partial(self.new_head, model), partial(self.head_loss, model)
        return RoleFacts(found, shapes, self._class_channels(model), *heads)

    def new_head(self, model: nn.Module) -> nn.Module:
        """Make another head of the role's own kind, for features that are not the role's own.

        Raises:
            ConfigError: If this kind of model has none that stands alone.
        """
        raise ConfigError(
            f'role {self.name!r}: {type(model).__name__} has no head that can be made anew; segmentors with `conv_seg` '
            'and single-stage detectors have'
        )

    def head_loss(
        self, model: nn.Module, head: nn.Module, features: list[Tensor], data_samples: Sequence[Any]
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Task losses of a head that :meth:`new_head` made on given features, and its logits by level."""
        raise NotImplementedError(f'role {self.name!r}: see new_head')

    def _dry_run(self, model: nn.Module, size: tuple[int, int], taps: Sequence[Tap]) -> RoleOutput:
        """Read taps on a small blank image; on a larger one if that is too small for a network, or its size fixed."""
        failed: Exception | None = None
        for fallback in (True,) if self._outgrew else (False, True):
            own = self._own_size(model) if fallback else size
            try:
                return self._probe(model, own, taps)
            except ConfigError:
                raise
            except Exception as error:  # networks fail in many ways; the larger image shows if the size is to blame
                failed, self._outgrew = error, True
        taken = ', '.join(map(str, taps))
        if 'device cpu not found' in str(failed):
            raise ConfigError(
                f'role {self.name!r}: {type(model).__name__} cannot be read at {taken}: mmcv has one of its operators '
                f'for GPUs alone ({cause_of(failed)}), and the dry run is on the CPU'
            ) from failed
        raise ConfigError(
            f'role {self.name!r}: no blank image goes through {type(model).__name__} up to '
            f'{taken}, neither of {size[0]} x {size[1]} pixels nor of {own[0]} x {own[1]} '
            f'({cause_of(failed)}). The latter is `data_preprocessor.size`, else `backbone.img_size`, '
            f'else {LARGE_SIZE}: set these right if the network takes one size only, or tap another module.'
        ) from failed

    def _probe(self, model: nn.Module, size: tuple[int, int], taps: Sequence[Tap]) -> RoleOutput:
        found = self.features(model, blank_image(model, size), taps, blank_samples(1, size))
        return replace(found, truth=no_objects())

    def _own_size(self, model: Any) -> tuple[int, int]:
        """Height and width of the images that a network is trained on, else made for, else large enough for any."""
        stated = model.data_preprocessor, getattr(model, 'backbone', None)
        size = getattr(stated[0], 'size', None) or getattr(stated[1], 'img_size', None) or LARGE_SIZE
        return (size, size) if isinstance(size, int) else tuple(size)

    @abstractmethod
    def _lacks(self, model: nn.Module, tap: str) -> str:
        """Say why there is no tap ``logits``, ``boxes`` or another named one, and what to do."""

    def _class_channels(self, model: nn.Module) -> int | None:
        """Channels K of class maps (N, K, h, w); None for a model that scores regions, queries or masks."""
        return None

    def _run(self, model: Any, inputs: Tensor, data_samples: list[Any] | None, taps: Sequence[Tap]) -> None:
        """Run a network up to its last tap."""
        parts = {path.partition('.')[0] for path in self.paths(model, taps)}
        if parts == {'backbone'}:
            model.backbone(inputs)
        else:
            self._run_heads(model, model.extract_feat(inputs), data_samples, parts)

    def _run_heads(self, model: nn.Module, features: Any, data_samples: list[Any] | None, parts: set[str]) -> None:
        """Run the parts beyond the neck that hold a tap."""
        raise NotImplementedError(f'role {self.name!r}: {type(model).__name__} runs as a whole')

    def _readings(self, model: nn.Module, taps: Iterable[Tap]) -> dict[Tap, Reading]:
        return {tap: self.reading(model, tap) for tap in taps}

    def _tap_outputs(
        self, model: nn.Module, collected: Mapping[Tap, list[Tensor]], area: BatchArea
    ) -> dict[Tap, TapOutput]:
        """Say of every tap what it gave and where it lies.

        Raises:
            ConfigError: If a tap gave nothing, or tensors of which nothing is known.
        """
        found = {}
        for tap, tensors in collected.items():
            if not tensors:
                raise ConfigError(
                    f'role {self.name!r}: tap {str(tap)!r} gave no tensor. Its module has no such level or is not '
                    'called as a module (a whole decode head never is): tap one of its children, `logits` or `feats`.'
                )
            kind = self.reading(model, tap).kind or _KINDS.get(tensors[0].dim())
            if kind is None:
                raise ConfigError(
                    f'role {self.name!r}: tap {str(tap)!r} gives tensors of {tensors[0].dim()} dimensions; maps '
                    '(N, C, h, w), tokens (N, L, C) and vectors (N, C) can be compared'
                )
            if kind is Kind.TOKENS:  # channels come second, as everywhere
                tensors = [tensor.transpose(1, 2) for tensor in tensors]
            known = self._strides.get(tap, [])
            if len(known) != len(tensors):
                known = [None] * len(tensors)
            strides = [
                stride_of((tensor.shape[2], tensor.shape[3]), area.padded, stride) if tensor.dim() == 4 else None
                for tensor, stride in zip(tensors, known, strict=True)
            ]
            found[tap] = TapOutput(kind, tensors, tuple(strides))
        return found


def batch_area(inputs: Tensor, data_samples: Sequence[Any]) -> BatchArea:
    """Where the images of a batch lie, by the ``img_shape`` that stock preprocessors note before they pad."""
    padded = height, width = inputs.shape[2], inputs.shape[3]
    shapes = [getattr(sample, 'img_shape', padded)[:2] for sample in data_samples]
    inside = tuple((min(rows, height), min(columns, width)) for rows, columns in shapes)
    return BatchArea(padded, inside or (padded,) * inputs.shape[0])


def has_module(model: nn.Module, path: str) -> bool:
    """Whether a network has a module; asked in every step, so without a list of all modules."""
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True
