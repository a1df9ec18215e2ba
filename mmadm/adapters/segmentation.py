"""Everything mmadm knows about the inside of an MMSegmentation model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmadm.adapters.base import Adapter, has_module
from mmadm.adapters.query_maps import map_reading
from mmadm.adapters.taps import Reading, maps_first
from mmadm.registry import ADAPTERS
from mmadm.structures import BatchArea, GroundTruth, Kind, RoleOutput, Size, Tap, TapOutput
from mmadm.utils.versions import require


@ADAPTERS.register_module()
class SegmentationAdapter(Adapter):
    """Runs a stock segmentor; ``logits`` is what the loss sees, (N, K, h, w), ``pre_logits`` the classifier's input.

    Of heads that predict a set of masks (Mask2Former, MaskFormer) ``logits`` is what all queries say of each pixel; of
    PointRend the map of the stage before, since its last one scores points of its own choice.

    Args:
        name: The role's name, for error messages.
        model: A segmentor such as ``EncoderDecoder``.

    Raises:
        ImportError: If the installed mmseg is outside the range that mmadm knows.
    """

    priority: ClassVar[int] = 0

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Whether a network has a decode head."""
        return hasattr(model, 'backbone') and hasattr(model, 'decode_head')

    def __init__(self, name: str, model: nn.Module) -> None:
        require('mmseg')
        self._stages = _scoring_stages(model)
        self._head_path = 'decode_head'
        if isinstance(model.decode_head, nn.ModuleList):  # a cascade: the last stage gives the prediction
            self._head_path += f'.{len(self._stages) - 1}'
        feats = 'neck' if getattr(model, 'with_neck', False) else 'backbone'
        # mmseg calls head.forward() itself, so a hook on the head never fires; its last convolution's does
        classifier = f'{self._head_path}.conv_seg'
        kernels = getattr(self._head(model), 'kernel_update_head', ())  # K-Net: each stage refines the former's scores
        scores = Kind.SIGMOID_SCORES if _scores_by_sigmoid(self._head(model)) else Kind.SOFTMAX_SCORES
        named = {
            'logits': Reading((classifier,), kind=scores),
            'pre_logits': Reading((classifier,), _first_argument),
            'feats': Reading((feats,), maps_first),
        }
        # heads of masks (Mask2Former, MaskFormer)
        self._wants_samples = 'batch_data_samples' in signature(model.get_submodule(self._stages[0]).forward).parameters
        if self._wants_samples:  # their loss calls the head as a module
            named['logits'] = map_reading(self._head_path, exclusive=True)
        if hasattr(self._head(model), 'mask_norm'):  # Segmenter: a score of each class for each token
            tokens = f'{self._head_path}.mask_norm'
            named['logits'] = Reading((tokens, feats), _MapsOfTokens(self._head(model)), scores)
        if kernels:
            last = f'{self._head_path}.kernel_update_head.{len(kernels) - 1}'
            named['logits'] = Reading((last,), _first_output, scores)
        super().__init__(name, named)
        self._same_as[classifier] = 'logits'

    def new_head(self, model: nn.Module) -> nn.Module:
        """Make another classifier, a 1x1 convolution like ``conv_seg``."""
        head = self._head(model)
        if not hasattr(head, 'conv_seg'):
            return super().new_head(model)
        classifier = nn.Conv2d(head.conv_seg.in_channels, head.conv_seg.out_channels, kernel_size=1)
        nn.init.normal_(classifier.weight, std=0.01)
        assert classifier.bias is not None
        nn.init.zeros_(classifier.bias)
        return classifier

    def _probe(self, model: nn.Module, size: tuple[int, int], taps: Sequence[Tap]) -> RoleOutput:
        """Read taps on one blank image; every pixel has the first class."""
        found = super()._probe(model, size, taps)
        truth = GroundTruth(torch.zeros(1, *size, dtype=torch.long), getattr(self._head(model), 'ignore_index', 255))
        return replace(found, truth=truth)

    def _head(self, model: nn.Module) -> Any:
        return model.get_submodule(self._head_path)

    def _lacks(self, model: nn.Module, tap: str) -> str:
        if tap == 'boxes':
            return 'a segmentor has no tap `boxes`; tap `logits`, `feats` or a module path.'
        return f'{type(self._head(model)).__name__} has no `conv_seg`, so no tap `{tap}`; tap `feats` or a module path.'

    def _class_channels(self, model: nn.Module) -> int | None:
        head = self._head(model)
        return head.out_channels if has_module(model, self._named['logits'].paths[0]) else None

    def truth(self, model: nn.Module, data_samples: list[Any]) -> GroundTruth:
        """The label of each pixel."""
        labels = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples])
        return GroundTruth(labels, self._head(model).ignore_index)

    def head_loss(
        self, model: nn.Module, head: nn.Module, features: list[Tensor], data_samples: Sequence[Any]
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Task losses of another classifier with the head's own criterion; see :meth:`Adapter.head_loss`."""
        logits = head(features[0])
        return self._head(model).loss_by_feat(logits, data_samples), [logits]

    def _tap_outputs(
        self, model: nn.Module, collected: Mapping[Tap, list[Tensor]], area: BatchArea
    ) -> dict[Tap, TapOutput]:
        """Say of every tap what it gave; of a cascade's stage that stock runs again for the next what its loss saw."""
        first = dict(collected)
        if isinstance(model.decode_head, nn.ModuleList):
            for tap in (tap for tap in collected if tap in self._strides):
                if self.reading(model, tap).paths[0].startswith('decode_head.'):
                    first[tap] = collected[tap][: len(self._strides[tap])]
        return super()._tap_outputs(model, first, area)

    def _run_heads(self, model: Any, features: Any, data_samples: list[Any] | None, parts: set[str]) -> None:
        """Run the heads that hold a tap; a cascade's later stages take the former stage's logits too."""
        if 'decode_head' in parts:
            first, *later = (model.get_submodule(path) for path in self._stages)
            logits = first(features, _sized(data_samples or ())) if self._wants_samples else first.forward(features)
            for stage in later:
                logits = stage.forward(features, logits)
        if 'auxiliary_head' in parts:
            heads = model.auxiliary_head if isinstance(model.auxiliary_head, nn.ModuleList) else [model.auxiliary_head]
            for head in heads:
                head.forward(features)


def _scores_by_sigmoid(head: Any) -> bool:
    """Whether a decode head's logits go through a sigmoid per class."""
    if getattr(head, 'out_channels', None) == 1:  # stock mmseg predicts a single channel so, whatever it learnt from
        return True
    # heads that classify masks (Mask2Former) have other losses, and no logits of pixels
    losses = getattr(getattr(head, 'kernel_generate_head', head), 'loss_decode', None)
    listed: Iterable[Any] = losses if isinstance(losses, nn.ModuleList) else [losses]
    # DiceLoss has use_sigmoid too, but stands beside the loss that says what the scores are
    kinds = ('CrossEntropyLoss', 'FocalLoss')
    return any(type(loss).__name__ in kinds and loss.use_sigmoid for loss in listed)


def _scoring_stages(model: nn.Module) -> list[str]:
    """Paths of the decode head, or of the stages of a cascade that score every pixel."""
    from mmseg.models.decode_heads import PointHead

    if not isinstance(model.decode_head, nn.ModuleList):
        return ['decode_head']
    return [f'decode_head.{index}' for index, stage in enumerate(model.decode_head) if not isinstance(stage, PointHead)]


class _MapsOfTokens:
    """Reads tokens (N, h * w, K) as maps (N, K, h, w), of the size that the head's input has.

    Args:
        head: The head, which chooses its input from the levels of the backbone or neck.
    """

    def __init__(self, head: Any) -> None:
        self._head = head
        self._size: Size = (0, 0)

    def __call__(self, _args: Any, _kwargs: Any, output: Any) -> list[Tensor]:
        if isinstance(output, Tensor):
            return [output.transpose(1, 2).unflatten(2, self._size)]
        self._size = tuple(self._head._transform_inputs(output).shape[2:])
        return []


def _sized(data_samples: Sequence[Any]) -> list[Any]:
    """Data samples with the size that MaskFormer asks for, as stock mmseg makes them for a prediction."""
    from mmseg.structures import SegDataSample

    metas = [sample.metainfo for sample in data_samples]
    return [SegDataSample(metainfo={**meta, 'batch_input_shape': meta['img_shape']}) for meta in metas]


def _first_argument(args: Any, _kwargs: Any, _output: Any) -> list[Tensor]:
    return [args[0]]


def _first_output(_args: Any, _kwargs: Any, output: Any) -> list[Tensor]:
    return [output[0]]
