"""Give every role the batch as its own preprocessor would make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import nn

from mmadm.utils.errors import ConfigError
from mmadm.utils.random import generator_states, replayed


class RolePreprocessor(nn.Module):
    """Runs each distinct preprocessor once on the same augmented images.

    Args:
        preprocessors: The roles' own preprocessors by role; roles that share one object share its images.
        keep_samples: Roles that compute task losses and so need data samples of their own.
        deploy: Role whose preprocessor serves outside training.

    Raises:
        ConfigError: If some of them mix images (Mixup, CutMix) and others do not, or in another way.
    """

    def __init__(
        self, preprocessors: dict[str, BaseDataPreprocessor], keep_samples: tuple[str, ...], deploy: str
    ) -> None:
        super().__init__()
        _check_mixing(preprocessors)
        # a plain dict: the modules belong to the roles, and must not appear twice in a state dict
        self._by_role = dict(preprocessors)
        self._distinct = len({id(preprocessor) for preprocessor in preprocessors.values()})
        self._keep_samples = keep_samples
        self._deploy = deploy

    def shared(self, role: str, other: str) -> bool:
        """Whether two roles see the same images."""
        return self._by_role[role] is self._by_role[other]

    def forward(self, data: dict[str, Any] | Sequence[Any], training: bool = False) -> dict[str, Any]:
        """Preprocess a collated batch.

        Args:
            data: ``inputs`` (list of uint8 images (3, H, W)) and ``data_samples``, from the stock data loader; images
                and labels, from a loader of pairs such as those of torchvision.
            training: Whether this is a training step.

        Returns:
            In training ``inputs`` and ``data_samples`` by role; else what the deploy role's preprocessor returns.
        """
        if not training:
            return self._by_role[self._deploy](data, False)
        if not isinstance(data, Mapping):
            data = dict(zip(('inputs', 'data_samples'), data, strict=True))
        if len(self._by_role) == 1:
            done = self._by_role[self._deploy](data, True)
            return {key: {self._deploy: value} for key, value in done.items()}
        inputs: dict[str, Any] = {}
        samples: dict[str, Any] = {}
        made: dict[int, dict[str, Any]] = {}
        # taken only where a second preprocessor has to draw the same again
        start = generator_states() if self._distinct > 1 else ()
        for role, preprocessor in self._by_role.items():
            first = id(preprocessor) not in made
            if first:
                # padding edits the label maps in place, so each of several preprocessors gets samples of its own
                mine = data if self._distinct == 1 else {**data, 'data_samples': deepcopy(data['data_samples'])}
                # a batch augmentation (random resize) has to draw the same for every role
                with replayed(start) if made else nullcontext():
                    made[id(preprocessor)] = preprocessor(mine, True)
            done = made[id(preprocessor)]
            inputs[role] = done['inputs']
            if role not in self._keep_samples:
                # the meta information is all that a frozen role needs
                samples[role] = _without_data(done['data_samples'])
            else:
                # some detectors edit their samples; no role may see another's edits
                samples[role] = done['data_samples'] if first else deepcopy(done['data_samples'])
        return {'inputs': inputs, 'data_samples': samples}


def mixing_of(preprocessor: BaseDataPreprocessor) -> tuple[Any, ...]:
    """How a preprocessor of MMPretrain mixes images (Mixup, CutMix); two that mix alike give equal values."""
    mixing = getattr(preprocessor, 'batch_augments', None)
    known = [(type(one).__name__, vars(one)) for one in getattr(mixing, 'augments', ())]
    return known, getattr(mixing, 'probs', None)


def _check_mixing(preprocessors: Mapping[str, BaseDataPreprocessor]) -> None:
    """Refuse preprocessors of MMPretrain that would make other images of one batch."""
    found = {role: mixing_of(preprocessor) for role, preprocessor in preprocessors.items()}
    first, *others = found
    for role in others:
        if found[role] != found[first]:
            raise ConfigError(
                f'model.roles.{role}: its data_preprocessor.batch_augments (train_cfg.augments) are not those of '
                f'{first!r}, so the two would see different mixtures of images; give both the same'
            )


def _without_data(samples: Any) -> Any:
    """Data samples with their meta information alone; labels of another kind as they are."""
    if isinstance(samples, BaseDataElement):
        return _bare(samples)
    return [_without_data(sample) for sample in samples] if isinstance(samples, list | tuple) else samples


def _bare(sample: BaseDataElement) -> BaseDataElement:
    # `type(sample)(metainfo=...)` would copy every entry deeply, which takes four times as long
    bare = type(sample)()
    for key, value in sample.metainfo_items():
        bare.set_field(value, key, field_type='metainfo')
    return bare
