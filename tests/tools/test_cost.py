"""What a step costs: every part is really run and told of, and the ratios are those of the times."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.config import Config
from tiny_runs import load_tool, role_config, write_images
from torch import nn

from mmadm.utils.cost import (
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


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def tool():
    return load_tool('benchmark')


def offline(data) -> Config:
    cfg = role_config(data)
    cfg.model.update(frozen=['teacher'], distillers=[dict(type='mmadm.ADM', at='backbone.layer4')])
    cfg.optim_wrapper.pop('teacher')
    return cfg


ONLINE_ROWS = ['plain step of student', 'plain step of teacher']
OFFLINE_ROWS = ['plain step of student', 'forward pass of teacher']


@pytest.mark.parametrize(('make', 'rows'), [(role_config, ONLINE_ROWS), (offline, OFFLINE_ROWS)])
def test_every_part_is_measured_in_every_round(tool, data, make, rows):
    costs = tool.cost.measure(make(data), rounds=2)
    inside = [tool.cost.LOSSES, tool.cost.OPTIMISER]
    assert list(costs.milliseconds) == [*rows, WHOLE, OWN, *inside]  # ADM has a connector
    assert all(len(times) == 2 and min(times) > 0 for times in costs.milliseconds.values())
    assert list(costs.memory) == [*rows, WHOLE] and min(costs.memory.values()) > 0
    expected = time_ratios(
        costs.milliseconds, [Part(row, row.split()[-1], row.startswith('plain')) for row in rows], 'student'
    )
    assert costs.ratios[:3] == expected
    assert costs.ratios[3].value == costs.memory[WHOLE] / sum(costs.memory[row] for row in rows)


def test_the_parts_do_what_their_rows_say(tool, data):
    """Who runs in which mode, and how often, as the modules themselves see it."""
    import learners  # beside the tool, which puts its folder on the path

    cost, cfg = tool.cost, offline(data)
    cost.init_default_scope('mmseg')
    batches = learners.load_batches(cfg)
    assert len(batches) == learners.BATCHES and len(batches[0]['inputs']) == 2
    whole = learners.Learner(*learners.built(cfg, learners.whole_model(cfg), CPU))
    seen = []
    for role, network in whole.model.roles.items():
        for part in ('backbone', 'decode_head'):
            module = network.get_submodule(part if part == 'backbone' else 'decode_head.conv_seg')
            module.register_forward_hook(
                lambda module, args, out, name=(role, part): seen.append((*name, torch.is_grad_enabled()))
            )
    start = {key: value.clone() for key, value in whole.model.named_parameters()}
    cost.prefix(cfg, whole.model, 'teacher', ['backbone.layer4'], batches)(0)()
    assert seen == [('teacher', 'backbone', False)]
    seen.clear()
    found = cost.watched_step(whole, batches[0], CPU)
    assert seen == [('teacher', 'backbone', False), ('student', 'backbone', True), ('student', 'decode_head', True)]
    assert min(found.values()) > 0
    # nothing is learned, so that every round costs the same
    assert all(torch.equal(value, start[key]) for key, value in whole.model.named_parameters())
    assert not any(part._forward_hooks for part in whole.model.distillers.values())


def test_own_modules_run_and_step_without_the_roles(tool, data):
    import learners

    cfg = offline(data)
    tool.cost.init_default_scope('mmseg')
    whole = learners.Learner(*learners.built(cfg, learners.whole_model(cfg), CPU))
    run = tool.cost.own_modules(whole, learners.load_batches(cfg))(0)
    (weight,) = whole.model.connectors.parameters()
    seen = []
    hooks = [weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.abs().sum() > 0))]
    hooks += [m.register_forward_hook(lambda *a: seen.append('role')) for m in whole.model.roles.modules()]
    step = torch.optim.SGD.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, 'step', lambda self: seen.append(self.param_groups[0]['params']) or step(self))
        run()
    assert seen[0] and seen[1][0] is weight and len(seen) == 2 and weight.grad is None


def test_a_generator_is_measured_as_the_methods_own(tool, data):
    cfg = offline(data)
    loss = dict(type='MaskedGeneration', mask_ratio=0.5)
    cfg.model.distillers = [
        dict(type='mmadm.Transfer', source='teacher', learner='student', at='backbone.layer4', loss=loss)
    ]
    costs = tool.cost.measure(cfg, rounds=1)
    assert list(costs.milliseconds)[:4] == [*OFFLINE_ROWS, WHOLE, OWN] and costs.milliseconds[OWN][0] > 0
    assert [ratio.target for ratio in costs.ratios] == [None, 1.02, None, None]


def test_the_command_prints_every_row_and_ratio(tool, data, tmp_path, capsys):
    cfg = offline(data)
    cfg.dump(tmp_path / 'tiny.py')
    options = ['--iterations', '1', '--cfg-options', 'train_dataloader.batch_size=3']
    assert tool.main(['cost', str(tmp_path / 'tiny.py'), *options]) == 0
    out = capsys.readouterr().out
    for text in (*OFFLINE_ROWS, WHOLE, 'losses', 'optimiser', 'medians of 1 rounds', '1.02', 'peak memory'):
        assert text in out


@pytest.mark.parametrize(
    ('cfg', 'rounds', 'message'),
    [
        (dict(model=dict(type='A')), 1, 'the model of this config has none'),
        (dict(model=dict(roles={})), 0, '--iterations=0: need at least 1'),
    ],
)
def test_what_cannot_be_measured_is_refused(tool, cfg, rounds, message):
    with pytest.raises(ValueError, match=message):
        tool.cost.measure(Config(cfg), rounds)
