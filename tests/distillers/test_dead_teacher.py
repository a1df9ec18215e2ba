"""A teacher that puts out nothing but zeros: what is compared with it stays finite."""

from __future__ import annotations

import pytest
import torch
from rank_steps import METHODS, batches, build, step


@pytest.mark.parametrize('name', METHODS)
def test_losses_and_gradients_stay_finite(name, tmp_path):
    torch.save({'0': torch.randn(3, 64)}, tmp_path / 'tokens.pth')
    model = build(name, tmp_path)
    with torch.no_grad():
        for role in {'teacher', 'bridge', 'one'} & set(model.roles):
            for parameter in model.roles[role].parameters():
                parameter.zero_()
    found = step(model, batches(name)[0])
    for part in found.values():
        assert [key for key, values in part.items() if not values.isfinite().all()] == []
