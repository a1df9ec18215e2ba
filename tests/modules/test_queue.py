"""ClassQueue: what is pushed where, wrapping, and what is drawn."""

import pytest
import torch

from mmadm.functional import class_means
from mmadm.modules import ClassQueue


def test_regions_are_pushed_as_by_the_published_program(golden):
    case = golden('cirkd_region_enqueue')
    queue = ClassQueue(4, 2, 4)
    queue.entries.copy_(case.inputs['region_queue'])
    queue.pointer.copy_(case.inputs['region_pointer'].long())
    means, present = class_means(case.inputs['teacher'], case.inputs['labels'].long(), 4)
    queue.push(means.flatten(0, 1), torch.arange(4).repeat(len(means)), present.flatten())
    torch.testing.assert_close(queue.entries, case.expected['region_queue'], rtol=1e-4, atol=1e-6)
    assert torch.equal(queue.pointer, case.expected['region_pointer'].long())


def one_by_one(queue, vectors, classes):
    for vector, label in zip(vectors, classes.tolist(), strict=True):
        queue.entries[label, queue.pointer[label]] = vector
        queue.pointer[label] = (queue.pointer[label] + 1) % queue.entries.shape[1]
        queue.filled[label] = min(queue.filled[label] + 1, queue.entries.shape[1])


@pytest.mark.parametrize('share', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('pushed', [0, 1, 5, 40])
def test_a_push_is_as_many_single_ones_and_wraps(pushed, share):
    generator = torch.Generator().manual_seed(pushed)
    found, expected = ClassQueue(3, 4, 2), ClassQueue(3, 4, 2)
    for _ in range(3):
        vectors = torch.randn(pushed, 2, generator=generator)
        classes = torch.randint(3, (pushed,), generator=generator)
        valid = torch.rand(pushed, generator=generator) < share
        found.push(vectors, classes, None if share == 1 else valid)
        one_by_one(expected, vectors[valid], classes[valid])
        for name, buffer in expected.named_buffers():
            assert torch.equal(found.get_buffer(name), buffer), name


def test_empty_slots_are_never_drawn():
    queue = ClassQueue(3, 5, 2)
    assert not queue.draw(4)[1].any()
    queue.push(torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), torch.tensor([0, 0, 2]))
    drawn, filled = queue.draw(4)
    assert drawn.shape == (12, 2) and sorted(drawn[filled][:, 0].tolist()) == [1.0, 2.0, 3.0]
    for seed in range(9):  # a slot that no class has put anything in is never the one
        assert queue.draw(1, torch.Generator().manual_seed(seed))[1].any()
    assert len(queue.draw(9)[0]) == 15


def test_draws_are_the_same_slots_of_each_class_and_follow_the_generator():
    queue = ClassQueue(2, 50, 1)
    queue.push(torch.arange(100.0)[:, None], torch.arange(100) // 50)
    first, second, third = (queue.draw(5, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(first[:5] + 50, first[5:])


def test_a_checkpoint_holds_all_of_it():
    queue, fresh = ClassQueue(2, 3, 4), ClassQueue(2, 3, 4)
    queue.push(torch.randn(5, 4), torch.tensor([0, 1, 1, 1, 1]))
    fresh.load_state_dict(queue.state_dict())
    drawn = [each.draw(3, torch.Generator().manual_seed(0)) for each in (queue, fresh)]
    assert all(torch.equal(*pair) for pair in zip(*drawn, strict=True)) and drawn[0][1].any()
    assert fresh.pointer.tolist() == [1, 1] and fresh.filled.tolist() == [1, 3]
