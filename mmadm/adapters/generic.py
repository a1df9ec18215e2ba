"""Any network of mmengine: its taps are module paths, its losses its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmadm.adapters.base import Adapter
from mmadm.adapters.blank_image import blank_samples, input_channels
from mmadm.adapters.detection import feats_path
from mmadm.adapters.taps import Reading, tapped
from mmadm.registry import ADAPTERS
from mmadm.structures import RoleOutput, Tap


@ADAPTERS.register_module()
class GenericAdapter(Adapter):
    """Runs any ``BaseModel``, such as a network of the user's own.

    A frozen one runs its backbone, its ``extract_feat`` or all of ``mode='tensor'``: the first of these by which, in
    the dry run, a tap gave the same as by the last.

    Args:
        name: The role's name, for error messages.
        model: The network.
        named: Taps that have a name of their own, besides ``feats``: the neck, else the backbone, where there is one.
    """

    priority: ClassVar[int] = -1

    def __init__(self, name: str, model: nn.Module, named: Mapping[str, Reading] | None = None) -> None:
        path = feats_path(model)
        feats = {'feats': Reading((path,))} if isinstance(getattr(model, path, None), nn.Module) else {}
        super().__init__(name, {**feats, **(named or {})})
        self._ways: dict[Tap, int] = {}

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Whether a network is one of mmengine."""
        return isinstance(model, BaseModel)

    def _probe(self, model: nn.Module, size: tuple[int, int], taps: Sequence[Tap]) -> RoleOutput:
        """Read taps on one blank image, and find how little of the network has to run for each."""
        # not blank: a network that scales its images itself shows it
        image = torch.linspace(-1, 1, input_channels(model) * size[0] * size[1]).reshape(1, -1, *size)
        *shorter, whole = _ways_to_run(model, image, blank_samples(1, size))
        readings = self._readings(model, taps)
        with torch.no_grad():
            with tapped(model, readings) as wanted:
                whole()
            for number, run in enumerate(shorter):
                try:
                    with tapped(model, readings) as found:
                        run()
                except Exception:  # this part of the network takes something else than images
                    continue
                for tap in taps:
                    if tap not in self._ways and _equal(found[tap], wanted[tap]):
                        self._ways[tap] = number
        return super()._probe(model, size, taps)

    def _run(self, model: nn.Module, inputs: Tensor, data_samples: list[Any] | None, taps: Sequence[Tap]) -> None:
        """Run a network up to its last tap."""
        ways = _ways_to_run(model, inputs, data_samples)
        ways[max(self._ways.get(tap, len(ways) - 1) for tap in taps)]()

    def _lacks(self, model: nn.Module, tap: str) -> str:
        return (
            f'of a {type(model).__name__} nobody says what its `{tap}` are; tap '
            f'{"`feats` or " if "feats" in self._named else ""}a module path, or register an adapter of your own '
            '(docs/your_own_models.md)'
        )


def _ways_to_run(model: Any, inputs: Any, data_samples: Any) -> list[Callable[[], object]]:
    """What can be run of a network, from the least to the whole."""
    return [
        lambda: model.backbone(inputs),
        lambda: model.extract_feat(inputs),
        lambda: model(inputs, data_samples, mode='tensor'),
    ]


def _equal(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    """Whether there are tensors, and the same ones."""
    pairs = zip(found, wanted, strict=False)
    return 0 < len(found) == len(wanted) and all(torch.equal(a, b) for a, b in pairs)
