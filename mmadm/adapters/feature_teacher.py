"""Backbones that teach features without a task of their own, such as DINOv2, and what is known of their tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from operator import attrgetter
from typing import Any, ClassVar

import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmadm.adapters.base import Adapter, batch_area
from mmadm.adapters.blank_image import blank_image, blank_samples
from mmadm.adapters.taps import Reading, tapped, tensors_of
from mmadm.registry import ADAPTERS, MODELS
from mmadm.structures import BatchArea, RoleOutput, Size, Tap
from mmadm.utils.errors import ConfigError, require_dict
from mmadm.utils.versions import require

#: Class and register tokens stand before those of the image; DINOv3 has five
MOST_EXTRA_TOKENS = 16
#: What of a dict of outputs is the image: DINOv2's own program, Transformers
_TOKENS_OF = ('x_norm_patchtokens', 'last_hidden_state')
_EXAMPLE = "dict(type='mmpretrain.TIMMBackbone', model_name=...) or dict(module='timm:create_model', model_name=...)"


@MODELS.register_module()
class FeatureTeacher(BaseModel):
    """A frozen role that is a backbone alone; the tap ``feats`` is what it puts out, tokens as maps.

    Images are padded at the right and at the bottom to whole patches, or resized.

    Args:
        backbone: A registered backbone, or ``dict(module='package:callable', **arguments)``: any program that makes a
            ``nn.Module``. Of such a one ``forward_features`` is run where it has that.
        data_preprocessor: ``mean`` and ``std`` of its own training, ``bgr_to_rgb``; stock ``ImgDataPreprocessor``
            unless ``type`` names another.
        size: Height and width to which every batch is resized, for a backbone that takes one size only.

    Raises:
        ConfigError: If there is no such backbone, or nobody says how its images are normalised.
    """

    def __init__(
        self, backbone: Mapping[str, Any], data_preprocessor: Any = None, size: Sequence[int] | None = None
    ) -> None:
        if not data_preprocessor:
            raise ConfigError(
                'FeatureTeacher.data_preprocessor: give the values that its backbone was trained with, such as '
                'dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)'
            )
        if isinstance(data_preprocessor, Mapping):
            data_preprocessor = {'type': 'ImgDataPreprocessor', **data_preprocessor}
        super().__init__(data_preprocessor)
        require_dict('FeatureTeacher.backbone', backbone, _EXAMPLE)
        self.backbone: Any = _built(backbone)
        self._imported = 'module' in backbone
        # mmengine's mark: weights that came with the network must not be drawn anew
        self._is_init = self._imported and _brings_weights(backbone)
        self._channels_last = getattr(self.backbone, 'output_fmt', None) == 'NHWC'  # such as timm's Swin
        self.patch = _patch_of(self.backbone)
        self.size = tuple(size) if size else None
        self.register_load_state_dict_pre_hook(_find_backbone)

    def init_weights(self) -> None:
        """Initialise a registered backbone as its toolbox would; what is imported has drawn its weights itself."""
        if not self._imported:
            super().init_weights()

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> tuple[Tensor, ...]:
        """Run the backbone.

        Args:
            inputs: Preprocessed images (N, C, H, W).
            data_samples: Not looked at.
            mode: ``tensor``.

        Returns:
            What it puts out, tokens (N, L, C) as maps.

        Raises:
            ConfigError: If losses or predictions are asked for.
        """
        if mode != 'tensor':
            raise ConfigError('mmadm.FeatureTeacher is a backbone alone: it has neither losses nor predictions')
        images = self.fitted(inputs)
        run = getattr(self.backbone, 'forward_features', self.backbone) if self._imported else self.backbone
        return tuple(self.as_map(tensor, images) for tensor in _image_features(run(images)))

    def fitted(self, images: Tensor) -> Tensor:
        """Pad images to whole patches, or resize them."""
        if self.size:
            return F.interpolate(images, self.size, mode='bilinear', align_corners=False, antialias=True)
        missing = [-side % cell for side, cell in zip(images.shape[2:], self.patch, strict=True)]
        return F.pad(images, (0, missing[1], 0, missing[0])) if any(missing) else images

    def as_map(self, tokens: Tensor, images: Tensor) -> Tensor:
        """Lay tokens (N, L, C) out as a map (N, C, h, w), without those of no place; anything else stays.

        Args:
            tokens: What a module puts out.
            images: The backbone's input (N, C, H, W).
        """
        grids = list(_grids((images.shape[2], images.shape[3]), self.patch))
        if self._channels_last and tokens.dim() == 4 and tuple(tokens.shape[1:3]) in grids:
            return tokens.permute(0, 3, 1, 2)
        if tokens.dim() != 3 or tokens.shape[0] != images.shape[0]:
            return tokens
        extra, rows, columns = min(
            ((tokens.shape[1] - h * w, h, w) for h, w in grids if h * w <= tokens.shape[1]), default=(math.inf, 0, 0)
        )
        if extra > MOST_EXTRA_TOKENS:
            return tokens
        return tokens[:, int(extra) :].transpose(1, 2).unflatten(2, (rows, columns))


@ADAPTERS.register_module()
class FeatureTeacherAdapter(Adapter):
    """Runs a :class:`FeatureTeacher`: ``feats`` is what its backbone puts out, tokens at any tap are maps.

    Args:
        name: The role's name, for error messages.
        model: The network.
    """

    priority: ClassVar[int] = 0

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__(name, {'feats': Reading(('',))})
        self._same_as['backbone'] = 'feats'

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Whether a network is a ``FeatureTeacher``."""
        return isinstance(model, FeatureTeacher)

    def features(
        self, model: Any, inputs: Tensor, taps: Sequence[Tap], data_samples: list[Any] | None = None
    ) -> RoleOutput:
        """Run the backbone, see :meth:`Adapter.features`."""
        samples = [] if data_samples is None else data_samples
        images = model.fitted(inputs)
        area = _fitted_area(batch_area(inputs, samples), images, model.size is not None)
        with tapped(model, self._readings(model, taps)) as collected:
            model(images)
        maps = {tap: [model.as_map(tensor, images) for tensor in tensors] for tap, tensors in collected.items()}
        return RoleOutput(taps=self._tap_outputs(model, maps, area), area=area, data_samples=samples)

    def _dry_run(self, model: Any, size: tuple[int, int], taps: Sequence[Tap]) -> RoleOutput:
        try:
            return self.features(model, blank_image(model, size), taps, blank_samples(1, size))
        except ConfigError:
            raise
        except Exception as error:  # networks fail in many ways
            raise ConfigError(
                f'model.roles.{self.name}: no image of {size[0]} x {size[1]} pixels goes through '
                f'{type(model.backbone).__name__} ({type(error).__name__}: {error}). If it takes one size only, set '
                '`size=(height, width)` beside `backbone`, or let it take any, as `dynamic_img_size=True` does in timm.'
            ) from error

    def _lacks(self, model: nn.Module, tap: str) -> str:
        return f'a FeatureTeacher is a backbone alone and has no tap {tap!r}; tap `feats` or a module path.'


def _built(cfg: Mapping[str, Any]) -> nn.Module:
    if ('type' in cfg) == ('module' in cfg):
        raise ConfigError(f'FeatureTeacher.backbone={dict(cfg)}: name one of `type` and `module`, such as {_EXAMPLE}')
    if 'type' in cfg:
        if str(cfg['type']).startswith('mmpretrain.'):
            require('mmpretrain')
        found: nn.Module = MODELS.build(ConfigDict(cfg))
        return found
    where = f'FeatureTeacher.backbone.module={cfg["module"]!r}'
    package, _, name = str(cfg['module']).partition(':')
    try:
        make = attrgetter(name)(import_module(package))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{where}: must be 'package:callable' of an installed package ({error})") from error
    try:
        network = make(**{key: value for key, value in cfg.items() if key != 'module'})
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f'{where}: {error}') from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f'{where}: makes a {type(network).__name__}, no torch.nn.Module')
    return network


def _brings_weights(cfg: Mapping[str, Any]) -> bool:
    """Whether the arguments of an imported network name pretrained weights, as those of timm and Transformers do."""
    named = [value for key, value in cfg.items() if 'pretrained' in key or 'checkpoint' in key]
    return any(named) or 'pretrained' in cfg['module']


def _patch_of(backbone: nn.Module) -> Size:
    """Height and width of the patches that become tokens: those of the first convolution, if it does not overlap."""
    first = next((part for part in backbone.modules() if isinstance(part, nn.Conv2d)), None)
    if first is None or first.kernel_size != first.stride:
        return 1, 1
    return first.stride[0], first.stride[1]


def _grids(size: Size, patch: Size) -> Iterator[Size]:
    """Grids of tokens that an image may have; hierarchical backbones merge four into one."""
    for merged in (1, 2, 4, 8, 16, 32):
        rows, columns = (math.ceil(side / (cell * merged)) for side, cell in zip(size, patch, strict=True))
        yield rows, columns


def _image_features(output: Any) -> Iterator[Tensor]:
    """What of a backbone's output are features of the image."""
    if isinstance(output, Mapping):
        output = next((output[key] for key in _TOKENS_OF if output.get(key) is not None), output)
    return tensors_of(output)


def _fitted_area(area: BatchArea, images: Tensor, resized: bool) -> BatchArea:
    """Where the images of a batch lie once it is padded or resized."""
    height, width = images.shape[2], images.shape[3]
    if not resized:
        return replace(area, padded=(height, width))
    rows, columns = height / area.padded[0], width / area.padded[1]
    return BatchArea((height, width), tuple((round(h * rows), round(w * columns)) for h, w in area.images))


def _find_backbone(model: FeatureTeacher, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a checkpoint of the backbone alone fit, without a head or what only its own training needs."""
    start = f'{prefix}backbone.'
    if any(key.startswith(start) for key in state):
        return
    own = [f'{prefix}{key}' for key in model.state_dict()]
    children = list(model.backbone._modules)
    # a wrapper, such as that of timm's networks in MMPretrain, holds one network
    starts = [start, f'{start}{children[0]}.'] if len(children) == 1 else [start]
    best = max(starts, key=lambda start: sum(f'{start}{key[len(prefix) :]}' in own for key in state))
    parts = {key[len(best) :].partition('.')[0] for key in own if key.startswith(best)}
    for key in [key for key in state if key.startswith(prefix)]:
        inside = key[len(prefix) :]
        if inside.partition('.')[0] in parts:
            state[f'{best}{inside}'] = state.pop(key)
