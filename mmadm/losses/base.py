"""What every registered loss shares: what it compares, and how it is called."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from mmadm.structures import Kind, PairContext
from mmadm.utils.errors import ConfigError

#: Positions or tokens: there is something to look at beside the channels
WITH_POSITIONS = frozenset({Kind.MAP, Kind.TOKENS})
SCORES = frozenset({Kind.SOFTMAX_SCORES, Kind.SIGMOID_SCORES})
#: What no scale and offset of a channel changes the meaning of
FEATURES = frozenset({Kind.MAP, Kind.TOKENS, Kind.VECTORS})


class DistillationLoss(nn.Module, ABC):
    """A loss on a learner's and a source's tensors of one level. It detaches nothing: that is the distiller's task.

    Attributes:
        kinds: The kinds of taps that it makes sense for; at any other the model is refused while it is built.
        instead: What fits such a tap, for that message.
    """

    kinds: ClassVar[frozenset[Kind]]
    instead: ClassVar[str] = ''

    def check_kind(self, kind: Kind) -> None:
        """Raise ConfigError unless the loss makes sense for tensors of this kind."""
        if kind not in self.kinds:
            raise ConfigError(f'{type(self).__name__}: makes no sense for {kind.value}; what fits is {self.instead}')

    @abstractmethod
    def forward(self, student: Tensor, teacher: Tensor, context: PairContext = PairContext()) -> Tensor:
        """Compare two tensors of one shape, channels at dimension 1. Returns a scalar."""
