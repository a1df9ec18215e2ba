"""Times and memory: the ratios are those of the times, and what lives at the same time counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mmadm.bench.time_and_memory import (
    OWN,
    WHOLE,
    Part,
    Stopwatch,
    calls_of,
    held_by,
    interleave,
    memory_ratio,
    peak_bytes,
    time_ratios,
)

CPU = torch.device('cpu')
STUDENT, TEACHER = Part('s', 'student', True), Part('t', 'teacher', True)
FROZEN = Part('f', 'teacher', False)


def test_ratios_are_medians_over_the_rounds():
    # a busy third round, in which everything takes ten times as long
    times = {WHOLE: [11.0, 12.0, 130.0], 's': [4.0, 4.0, 40.0], 't': [6.0, 6.0, 60.0]}
    alone, both = time_ratios(times, [STUDENT, TEACHER], 'student')
    assert alone.name == 'whole step / s' and math.isclose(alone.value, 3.0) and alone.target is None
    assert both.name == 'whole step / (s + t)' and math.isclose(both.value, 1.2)


@pytest.mark.parametrize(
    ('parts', 'targets'),
    [
        ([STUDENT], [None]),
        ([STUDENT, TEACHER], [None, 1.03]),
        ([STUDENT, FROZEN], [None, 1.02]),
        ([STUDENT, TEACHER, FROZEN], [None, None]),
    ],
)
def test_the_target_depends_on_who_is_frozen(parts, targets):
    times = {WHOLE: [1.0], 's': [1.0], 't': [1.0], 'f': [1.0]}
    assert [ratio.target for ratio in time_ratios(times, parts, 'student')] == targets


def test_what_a_method_trains_beside_the_roles_is_one_more_part():
    times = {WHOLE: [12.0], 's': [4.0], 't': [4.0], OWN: [2.0]}
    _, roles, everything = time_ratios(times, [STUDENT, TEACHER], 'student')
    assert (roles.value, roles.target) == (1.5, 1.03)
    assert (everything.value, everything.target) == (1.2, None)
    assert everything.name == f'whole step / (s + t + {OWN})'


def test_calls_are_recorded_and_repeated_as_they_were():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 2), nn.ReLU(inplace=True))

        def forward(self, x):
            with torch.no_grad():
                self.first(x)
            return self.second(self.first(x))

    module, x = Two(), torch.ones(5, 3)
    calls = calls_of(module, lambda: module(x).sum().backward())
    assert [(call.module, call.learns) for call in calls] == [
        (module.first, False), (module.first, True), (module.second[0], True)
    ]  # fmt: skip
    assert [call.inputs[0].requires_grad for call in calls] == [False, False, True]
    torch.testing.assert_close(calls[2].inputs[0], module.first(x))
    module.zero_grad()
    for call in calls:
        call.repeat()
    first, bias, second, second_bias = (p.grad for p in module.parameters())
    # of the sum of its own output; the recorded input does not add up the gradients of several rounds
    assert torch.equal(first, torch.full((4, 3), 5.0)) and torch.equal(bias, torch.full((4,), 5.0))
    torch.testing.assert_close(second, module.first(x).sum(dim=0).expand(2, 4))
    assert torch.equal(second_bias, torch.full((2,), 5.0))
    assert all(given.grad is None for call in calls for given in call.inputs)
    assert not any(m._forward_pre_hooks for m in module.modules())


def test_memory_is_compared_with_the_sum_of_the_parts():
    ratio = memory_ratio({WHOLE: 90, 's': 40, 'f': 60}, [STUDENT, FROZEN])
    assert ratio.value == 0.9 and ratio.target is None


def test_variants_take_turns_in_alternating_order():
    calls = []

    def variant(name):
        return lambda number: calls.append((number, name)) or {name: float(number)}

    found = interleave([variant('a'), variant('b')], 3)
    assert calls == [(0, 'a'), (0, 'b'), (1, 'b'), (1, 'a'), (2, 'a'), (2, 'b')]
    assert found == {'a': [0.0, 1.0, 2.0], 'b': [0.0, 1.0, 2.0]}


def test_a_stopwatch_adds_up_only_what_it_was_started_for():
    watch = Stopwatch(CPU)
    assert watch.total == 0
    watch.start()
    watch.stop()
    first = watch.total
    assert first > 0
    watch.start()
    watch.stop()
    assert watch.total > first


def test_peak_memory_counts_what_lives_at_the_same_time():
    mebibyte = 2**20

    def one_after_the_other():
        for _ in range(3):
            torch.empty(mebibyte, dtype=torch.uint8)

    def at_once():
        return [torch.empty(mebibyte, dtype=torch.uint8) for _ in range(3)]

    assert peak_bytes(one_after_the_other, CPU, []) == mebibyte
    kept = torch.empty(100, dtype=torch.uint8)
    # views share their storage
    assert peak_bytes(at_once, CPU, [kept, kept[:50]]) == 3 * mebibyte + 100


def test_what_a_model_and_its_optimiser_hold():
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, lr=0.1)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    # weights 12 + 4 + 4, as many momenta, two statistics of 4 and a counter
    assert sum(tensor.numel() for tensor in held_by(model, [optimizer])) == 20 + 20 + 8 + 1
