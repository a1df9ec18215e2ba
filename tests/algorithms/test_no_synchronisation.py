"""A training step waits for the device nowhere but where stock does; whether a loss is finite a hook looks at later."""

from __future__ import annotations

import gc
from copy import deepcopy

import pytest
import small_segmentors
import torch
from rank_steps import SEGMENTATION, batches, build, registered_methods, step, types_of

from mmadm.bench.gpu_check.methods import METHODS, method
from mmadm.bench.gpu_check.synchronisation import own, waits_of_step
from mmadm.bench.gpu_check.waits import HostReads

CPU = torch.device('cpu')


@pytest.mark.parametrize('detection', [False, True], ids=['segmentation', 'detection'])
@pytest.mark.parametrize('name', METHODS)
def test_a_step_waits_nowhere_of_its_own(name, detection):
    cfg = method(name, detection)
    if cfg is None:
        pytest.skip('not for this task')
    places = waits_of_step(cfg, detection, CPU)
    assert own(places, pauses=name == 'switokd') == {}


@pytest.mark.parametrize('name', ['segmentation, maskd', 'segmentation, tokens'])
def test_what_needs_a_file_or_one_role_waits_nowhere_either(name, tmp_path):
    torch.save({'0': torch.randn(3, 64)}, tmp_path / 'tokens.pth')
    model, batch = build(name, tmp_path), batches(name)[0]
    step(model, deepcopy(batch))
    with HostReads() as counter:
        step(model, deepcopy(batch))
    assert own(counter.places) == {}


def test_every_distiller_and_loss_is_here():
    here = [cfg for name in METHODS for cfg in (method(name), method(name, True)) if cfg is not None]
    here += [SEGMENTATION['maskd'], SEGMENTATION['tokens']]
    assert registered_methods() <= types_of(here)


def test_one_role_waits_as_often_as_stock():
    cfg = method('plain')
    assert waits_of_step(cfg, False, CPU).total() == waits_of_step(cfg['roles']['student'], False, CPU).total()


@pytest.mark.parametrize(
    'read',
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: float(x[0]),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x),
        lambda x: x * x.new_tensor([1.0, 2.0, 3.0]),
        lambda x: x[[0, 1]],
    ],
)
def test_a_read_is_counted(read):
    with HostReads() as counter:
        read(torch.ones(3))
    assert counter.places.total() == 1


def test_what_needs_no_value_is_not_counted():
    x = torch.ones(3)
    with HostReads() as counter:
        x[x > 0] = 2.0
        torch.where(x > 0, x, -x)
        x[0::2] *= 5.0
    assert counter.places.total() == 0


def test_a_wait_of_a_distiller_is_found(monkeypatch):
    from mmadm.distillers import MutualLearning

    forward = MutualLearning.forward

    def reads(self, outputs, step):
        """Like the method, but looks at a value."""
        found = forward(self, outputs, step)
        assert all(float(value) >= 0 for value in found.losses.values())
        return found

    # as if it stood in the distiller's own file
    code = reads.__code__.replace(co_filename=forward.__code__.co_filename)
    monkeypatch.setattr(reads, '__code__', code)
    monkeypatch.setattr(MutualLearning, 'forward', reads)
    (place,) = own(waits_of_step(method('dml'), False, CPU))
    assert place.startswith('mmadm/distillers/mutual.py') and place.endswith('reads')


def test_nothing_of_a_frozen_teacher_outlives_the_step():
    """Its maps would be held in memory during the next step, beside those of that step."""
    model = small_segmentors.build(method('sokd'))
    optimiser = small_segmentors.plain_optimiser(model)

    before = {id(each) for each in tensors()}  # other tests' fixtures
    for number in range(2):
        model.train_step(small_segmentors.batch(seed=number, size=(64, 64)), optimiser)
    states = [state.get('momentum_buffer') for state in optimiser.optimizer.state.values()]
    known = before | {id(each) for each in [*model.parameters(), *model.buffers(), *states]}
    assert [tuple(each.shape) for each in tensors() if id(each) not in known and each.numel() > 1] == []


def tensors() -> list[torch.Tensor]:
    """All that are alive."""
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, torch.Tensor)]
