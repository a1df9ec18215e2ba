"""Everything mmadm knows about the inside of an MMPretrain classifier."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmadm.adapters.base import LARGE_SIZE, Adapter
from mmadm.adapters.blank_image import blank_image
from mmadm.adapters.taps import Reading, tapped
from mmadm.registry import ADAPTERS
from mmadm.structures import GroundTruth, Kind, RoleOutput, Tap
from mmadm.utils.errors import ConfigError
from mmadm.utils.versions import require


@ADAPTERS.register_module()
class ClassificationAdapter(Adapter):
    """Runs a stock ``ImageClassifier``: ``logits`` is (N, K), ``feats`` what the backbone puts out, before pooling.

    Networks for re-identification (``BaseReID`` of MMDetection) put out a vector of each picture at ``head`` instead.

    Args:
        name: The role's name, for error messages.
        model: The classifier.

    Raises:
        ImportError: If the installed mmpretrain is outside the range that mmadm knows.
    """

    priority: ClassVar[int] = 0

    def __init__(self, name: str, model: nn.Module) -> None:
        require('mmpretrain')
        head = _head(model)
        kind = Kind.SIGMOID_SCORES if _scores_by_sigmoid(head) else Kind.SOFTMAX_SCORES
        named = {'feats': Reading(('backbone',))}
        # ArcFace adds a margin in `target`; the classes of LinearReIDHead are for its loss alone
        scores = head is not None and 'target' not in signature(head.forward).parameters
        if scores and type(head).__name__ != 'LinearReIDHead':
            named['logits'] = Reading(('head',), _scores, kind)
        super().__init__(name, named)

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Whether a network is an ``ImageClassifier``."""
        kinds = {f'{kind.__module__}.{kind.__name__}' for kind in type(model).__mro__}
        return 'mmpretrain.models.classifiers.image.ImageClassifier' in kinds

    def loss(self, model: nn.Module, inputs: Tensor, data_samples: list[Any], taps: Sequence[Tap]) -> RoleOutput:
        """Run the stock training forward pass; see :meth:`Adapter.loss`."""
        return super().loss(model, *_one_by_one(inputs, data_samples), taps)

    def features(
        self, model: nn.Module, inputs: Tensor, taps: Sequence[Tap], data_samples: list[Any] | None = None
    ) -> RoleOutput:
        """Run only as much as the taps need; see :meth:`Adapter.features`."""
        inputs, data_samples = _one_by_one(inputs, data_samples)
        return super().features(model, inputs, taps, data_samples)

    def truth(self, model: nn.Module, data_samples: list[Any]) -> GroundTruth:
        """The class of each image; of images that were mixed the one with the larger share."""
        if all('gt_score' in sample for sample in data_samples):
            scores = torch.stack([sample.gt_score for sample in data_samples])
            several = 'logits' in self._named and self._named['logits'].kind is Kind.SIGMOID_SCORES
            return GroundTruth(image_labels=scores > 0.5 if several else scores.argmax(dim=1))
        found = [sample.get('gt_label') for sample in data_samples]
        labels = [getattr(label, 'label', label) for label in found]  # in re-identification it is in a LabelData
        known = all(label is not None and label.numel() == 1 for label in labels)
        return GroundTruth(image_labels=torch.cat(labels) if known else None)

    def new_head(self, model: nn.Module) -> nn.Module:
        """Make another pooling and classifier with the settings of these and weights of their own."""
        head = deepcopy(_head(model))
        for part in head.modules():
            if hasattr(part, 'reset_parameters'):
                part.reset_parameters()
        head._is_init = False  # mmengine's mark that weights have been drawn
        head.init_weights()
        return _Pooled(deepcopy(getattr(model, 'neck', None)), head)

    def head_loss(
        self, model: nn.Module, head: nn.Module, features: list[Tensor], data_samples: Sequence[Any]
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Task losses of such a head, and its logits; see :meth:`Adapter.head_loss`."""
        logits = Tap(self.name, 'logits')
        with tapped(head, {logits: self._named['logits']}) as collected:
            losses = _head(head).loss(head(features), data_samples)
        return losses, collected[logits]

    def _probe(self, model: nn.Module, size: tuple[int, int], taps: Sequence[Tap]) -> RoleOutput:
        """Read taps on one blank image, which has the first class."""
        found = super()._probe(model, size, taps)
        return replace(found, truth=GroundTruth(image_labels=torch.zeros(1, dtype=torch.long)))

    def _own_size(self, model: Any) -> tuple[int, int]:
        """The size that a network is made for; a pooling of fixed size, as in re-identification, says it, too."""
        kernel = getattr(getattr(getattr(model, 'neck', None), 'gap', None), 'kernel_size', None)
        if kernel is None:
            return super()._own_size(model)
        side = LARGE_SIZE
        with torch.no_grad():
            cells = model.backbone(blank_image(model, (side, side)))[-1].shape[2]
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        return rows * side // cells, columns * side // cells

    def _lacks(self, model: nn.Module, tap: str) -> str:
        if tap == 'boxes':
            return 'a classifier has no tap `boxes`; tap `logits`, `feats` or a module path.'
        return f'{type(_head(model)).__name__} puts out no class scores (N, K); tap `feats` or a module path.'

    def _run_heads(self, model: nn.Module, features: Any, data_samples: list[Any] | None, parts: set[str]) -> None:
        if 'head' in parts:
            _head(model)(features)


def _one_by_one(inputs: Tensor, data_samples: Any) -> tuple[Tensor, Any]:
    """Pictures (N, C, H, W) of a batch for re-identification, which is (1, N, C, H, W) with one sample of N labels."""
    if inputs.dim() != 5:
        return inputs, data_samples
    samples = [type(data_samples[0])() for _ in inputs[0]] if data_samples else data_samples
    if data_samples and 'gt_label' in data_samples[0]:  # a frozen role sees none
        for sample, label in zip(samples, data_samples[0].gt_label.label, strict=True):
            sample.set_gt_label(label)
    return inputs[0], samples


class _Pooled(nn.Module):
    """A classifier's neck and head."""

    def __init__(self, neck: Any, head: nn.Module) -> None:
        super().__init__()
        self.neck, self.head = neck, head

    def forward(self, features: Sequence[Tensor]) -> Any:
        """What the head takes."""
        return tuple(features) if self.neck is None else self.neck(tuple(features))


def _head(model: Any) -> Any:
    return model.head


def _scores_by_sigmoid(head: Any) -> bool:
    several = any(kind.__name__ == 'MultiLabelClsHead' for kind in type(head).__mro__)
    losses = getattr(head, 'loss_module', None) or getattr(head, 'loss', None)
    parts = losses.modules() if isinstance(losses, nn.Module) else ()
    return several or any(getattr(part, 'use_sigmoid', False) for part in parts)


def _scores(_args: Any, _kwargs: Any, output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    raise ConfigError(f'tap `logits`: the head puts out a {type(output).__name__}, no class scores (N, K); tap `feats`')
