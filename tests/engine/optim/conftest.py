"""A pair of roles so small that every gradient can be written down."""

from __future__ import annotations

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn


class Pair(BaseModel):
    """Student ``s``, its connector ``c`` and teacher ``t``; the losses are ``c * (s . x)`` and ``2 * (t . x)``.

    With one input ``x`` the gradients are ``c * x`` for s, ``s . x`` for c and ``2 * x`` for t.
    """

    def __init__(self) -> None:
        super().__init__()
        self.roles = nn.ModuleDict({'student': nn.Linear(2, 1, bias=False), 'teacher': nn.Linear(2, 1, bias=False)})
        self.connectors = nn.ModuleDict({'adm': nn.ModuleDict({'tap': nn.Linear(1, 1, bias=False)})})
        self.trainable, self.frozen = ('student', 'teacher'), ()
        with torch.no_grad():
            self.roles['student'].weight.copy_(torch.tensor([[1.0, 2.0]]))
            self.roles['teacher'].weight.copy_(torch.tensor([[3.0, -1.0]]))
            self.connectors['adm']['tap'].weight.fill_(0.5)

    @property
    def owners(self) -> tuple[str, ...]:
        """Every trainable role has an optimiser, and nothing else has."""
        return tuple(self.trainable)

    def owned_by(self, role: str) -> nn.Module:
        """Holder of one role and, for the student, of the connector."""
        connectors = self.connectors if role == 'student' else nn.ModuleDict()
        return nn.ModuleDict({role: self.roles[role], 'connectors': connectors})

    def forward(
        self, inputs: list[Tensor] | Tensor, data_samples: None = None, mode: str = 'loss'
    ) -> dict[str, Tensor]:
        """Return both losses."""
        x = torch.stack(list(inputs))
        return {
            'student.loss': self.connectors['adm']['tap'](self.roles['student'](x)).mean(),
            'teacher.loss': 2 * self.roles['teacher'](x).mean(),
        }


@pytest.fixture
def pair() -> Pair:
    """A fresh pair with student (1, 2), connector 0.5 and teacher (3, -1)."""
    return Pair()


@pytest.fixture
def make_pair() -> type[Pair]:
    """The class, for tests that need several equal pairs."""
    return Pair
