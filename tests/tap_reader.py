"""An adapter whose taps are named as a config names them."""

from __future__ import annotations

from mmadm.adapters import build_adapter
from mmadm.structures import Kind, RoleFacts, Tap


class Read:
    """What an adapter returned, with the levels of each tap by its name."""

    def __init__(self, adapter, model, found):
        self.facts = found
        self.output = found.output if isinstance(found, RoleFacts) else found
        self.taps = {str(tap): read.levels for tap, read in self.output.taps.items()}
        self.kinds = {str(tap): read.kind for tap, read in self.output.taps.items()}
        self.strides = {str(tap): read.strides for tap, read in self.output.taps.items()}
        self._adapter, self._model = adapter, model

    def __getattr__(self, name):
        return getattr(self.output, name)

    @property
    def by_sigmoid(self):
        """Whether `logits` score each class by itself."""
        return self.kinds['logits'] is Kind.SIGMOID_SCORES

    def on_rois(self, rois, base):
        """Scores of given regions."""
        (scores,) = self._adapter.score_regions(self._model, self.output, rois, Tap('', base)).levels
        return scores


class TapReader:
    """Calls an adapter with names."""

    def __init__(self, role, model):
        self.adapter = build_adapter(role, model)

    def _taps(self, names):
        return [Tap.parse(self.adapter.name, name) for name in names]

    def reading(self, model, name):
        return self.adapter.reading(model, Tap.parse(self.adapter.name, name))

    def paths(self, model, names):
        return self.adapter.paths(model, self._taps(names))

    def loss(self, model, inputs, data_samples, taps):
        return Read(self.adapter, model, self.adapter.loss(model, inputs, data_samples, self._taps(taps)))

    def features(self, model, inputs, taps, data_samples=None):
        return Read(self.adapter, model, self.adapter.features(model, inputs, self._taps(taps), data_samples))

    def probe(self, model, size, taps):
        return Read(self.adapter, model, self.adapter.probe(model, size, self._taps(taps)))

    def __getattr__(self, name):
        return getattr(self.adapter, name)
