"""DecoupledKL: its options, and taps that it cannot compare."""

import pytest
import torch

from mmadm.functional import decoupled_kl
from mmadm.losses import DecoupledKL
from mmadm.structures import PairContext
from mmadm.utils.errors import ConfigError


def test_options_are_passed_on():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 5, generator=generator) for _ in range(2))
    labels = torch.tensor([0, 4, 2])
    torch.testing.assert_close(
        DecoupledKL(tau=2.0, alpha=0.5, beta=3.0)(student, teacher, PairContext(labels=lambda: labels)),
        decoupled_kl(student, teacher, labels, 2.0, 0.5, 3.0),
    )


def test_missing_labels_are_refused():
    logits = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ConfigError, match='DecoupledKL: needs the label of each position'):
        DecoupledKL()(logits, logits)
