"""ADM on features of half precision."""

import torch
from role_outputs import role_outputs

from mmadm.registry import MODELS
from mmadm.structures import Step


def test_a_position_of_zeros_has_a_gradient_that_fits_float16():
    torch.manual_seed(0)
    taps = {role: torch.randn(1, 4, 3, 3).half() for role in ('student', 'teacher')}
    for column, tap in enumerate(taps.values()):
        tap[:, :, 0, column] = 0  # as a ReLU leaves it
        tap.requires_grad_()
    distiller = MODELS.build(dict(type='mmadm.ADM', consensus=1.0, divergence=1.0))
    distiller.trainable = frozenset(taps)
    outputs = role_outputs({role: dict(feats=[tap]) for role, tap in taps.items()})
    sum(distiller(outputs, Step()).losses.values()).backward()
    for tap in taps.values():
        assert tap.grad.isfinite().all() and tap.grad[:, :, 1:].abs().max() > 0
