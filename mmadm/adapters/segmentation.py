"""Everything mmadm knows about the inside of an MMSegmentation model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmadm.adapters.taps import tapped
from mmadm.structures import RoleOutput
from mmadm.utils.errors import ConfigError, near_matches
from mmadm.utils.versions import require


class SegmentationAdapter:
    """Runs a stock segmentor and reads its taps.

    Args:
        name: The role's name, for error messages.
        model: A segmentor such as ``EncoderDecoder``.

    Raises:
        ImportError: If the installed mmseg is outside the range that mmadm knows.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        require('mmseg')
        self.name = name
        self._head_path = 'decode_head'
        if isinstance(model.decode_head, nn.ModuleList):  # a cascade: the last stage gives the prediction
            self._head_path += f'.{len(model.decode_head) - 1}'
        self._feats_path = 'neck' if getattr(model, 'with_neck', False) else 'backbone'

    def module_path(self, model: nn.Module, tap: str) -> str:
        """Translate a tap's name into a module path.

        Args:
            model: The role's network.
            tap: ``logits`` (input resolution of the loss, (N, K, h, w)), ``feats`` (neck, else backbone), or any path.

        Raises:
            ConfigError: If there is no such module; lists near matches.
        """
        # mmseg calls head.forward() itself, so a hook on the head never fires; its last convolution's does
        path = {'logits': f'{self._head_path}.conv_seg', 'feats': self._feats_path}.get(tap, tap)
        modules = dict(model.named_modules())
        if path in modules and path:
            return path
        if tap == 'logits':
            head = type(model.get_submodule(self._head_path)).__name__
            raise ConfigError(f'role {self.name!r}: {head} has no `conv_seg`, so no tap `logits`; tap a module path.')
        valid = ['logits', 'feats', *filter(None, modules)]
        raise ConfigError(f'role {self.name!r} has no tap {tap!r}; {near_matches(tap, valid)}')

    def loss(self, model: nn.Module, inputs: Tensor, data_samples: list[Any], taps: Sequence[str]) -> RoleOutput:
        """Run the stock training forward pass.

        Args:
            model: The role's network, in training mode.
            inputs: Preprocessed images of shape (N, 3, H, W).
            data_samples: Stock data samples with ``gt_sem_seg``.
            taps: Names of the taps to read.

        Returns:
            Task losses, taps and labels.
        """
        with tapped(model, self._paths(model, taps)) as collected:
            losses = model(inputs, data_samples, mode='loss')
        labels = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples])
        ignore = model.get_submodule(self._head_path).ignore_index
        return RoleOutput(losses, self._reached(collected), labels, ignore)

    def features(self, model: nn.Module, inputs: Tensor, taps: Sequence[str]) -> RoleOutput:
        """Run only as much of the network as the taps need: no loss, no head beyond the last tap.

        Args:
            model: The role's network, in eval mode.
            inputs: Preprocessed images of shape (N, 3, H, W).
            taps: Names of the taps to read.

        Returns:
            The taps, without gradient.

        Raises:
            ConfigError: If a module exists but is not called as a module, such as a whole decode head.
        """
        paths = self._paths(model, taps)
        parts = {path.partition('.')[0] for path in paths.values()}
        with torch.no_grad(), tapped(model, paths) as collected:
            if parts == {'backbone'}:
                model.backbone(inputs)
            else:
                self._heads(model, model.extract_feat(inputs), parts)
        return RoleOutput(taps=self._reached(collected))

    def check_data(self, model: nn.Module, dataset: Any, samples: int = 64) -> None:
        """Look for label ids that the head does not know, in up to `samples` images spread over the data set.

        Args:
            model: The role's network.
            dataset: A stock mmseg data set, possibly wrapped.
            samples: How many label files to read at most.

        Raises:
            ConfigError: If a label id is neither a class nor the ignore index; names the file.
        """
        while not hasattr(dataset, 'pipeline') and hasattr(dataset, 'dataset'):
            dataset = dataset.dataset
        transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
        load = next((t for t in transforms if type(t).__name__ == 'LoadAnnotations'), None)
        if load is None or len(dataset) == 0:
            return
        head = model.get_submodule(self._head_path)
        for index in range(0, len(dataset), max(1, len(dataset) // samples)):
            info = dataset.get_data_info(index)
            ids = set(map(int, torch.as_tensor(load(info)['gt_seg_map'].copy()).unique()))
            wrong = sorted(i for i in ids - {head.ignore_index} if not 0 <= i < head.num_classes)
            if wrong:
                raise ConfigError(
                    f'{info["seg_map_path"]}: label ids {wrong[:8]} are outside 0..{head.num_classes - 1} '
                    f'(num_classes={head.num_classes}, ignore_index={head.ignore_index}). Set decode_head.num_classes, '
                    'reduce_zero_label or the label files right.'
                )

    def _paths(self, model: nn.Module, taps: Sequence[str]) -> dict[str, str]:
        return {tap: self.module_path(model, tap) for tap in taps}

    @staticmethod
    def _heads(model: nn.Module, features: Any, parts: set[str]) -> None:
        """Run the heads that hold a tap; a cascade's later stages take the former stage's logits too."""
        if 'decode_head' in parts:
            stages = model.decode_head if isinstance(model.decode_head, nn.ModuleList) else [model.decode_head]
            logits = stages[0].forward(features)
            for stage in stages[1:]:
                logits = stage.forward(features, logits)
        if 'auxiliary_head' in parts:
            heads = model.auxiliary_head if isinstance(model.auxiliary_head, nn.ModuleList) else [model.auxiliary_head]
            for head in heads:
                head.forward(features)

    def _reached(self, collected: dict[str, list[Tensor]]) -> dict[str, list[Tensor]]:
        for tap, tensors in collected.items():
            if not tensors:
                raise ConfigError(
                    f'role {self.name!r}: tap {tap!r} gave no tensor. Its module is not called as a module (a whole '
                    'decode head never is): tap one of its children, `logits` or `feats`.'
                )
        return collected
