"""What a step costs: every part is really run and told of."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from small_trainings import role_config, write_images

from mmadm.bench import measured_models, step_cost
from mmadm.bench.command import main
from mmadm.bench.time_and_memory import OWN, WHOLE, Part, time_ratios
from mmadm.structures import Tap

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('data'))


def offline(data) -> Config:
    cfg = role_config(data)
    cfg.model.update(frozen=['teacher'], distillers=[dict(type='mmadm.ADM', at='backbone.layer4')])
    cfg.optim_wrapper.pop('teacher')
    return cfg


ONLINE_ROWS = ['plain step of student', 'plain step of teacher']
OFFLINE_ROWS = ['plain step of student', 'forward pass of teacher']


@pytest.mark.parametrize(('make', 'rows'), [(role_config, ONLINE_ROWS), (offline, OFFLINE_ROWS)])
def test_every_part_is_measured_in_every_round(data, make, rows):
    costs = step_cost.measure(make(data), rounds=2)
    inside = [step_cost.LOSSES, step_cost.OPTIMISER]
    assert list(costs.milliseconds) == [*rows, WHOLE, OWN, *inside]  # ADM has a connector
    assert all(len(times) == 2 and min(times) > 0 for times in costs.milliseconds.values())
    assert list(costs.memory) == [*rows, WHOLE] and min(costs.memory.values()) > 0
    expected = time_ratios(
        costs.milliseconds, [Part(row, row.split()[-1], row.startswith('plain')) for row in rows], 'student'
    )
    assert costs.ratios[:3] == expected
    assert costs.ratios[3].value == costs.memory[WHOLE] / sum(costs.memory[row] for row in rows)


def test_the_parts_do_what_their_rows_say(data):
    """Who runs in which mode, and how often, as the modules themselves see it."""
    cfg = offline(data)
    init_default_scope('mmseg')
    batches = measured_models.load_batches(cfg)
    assert len(batches) == measured_models.BATCHES and len(batches[0]['inputs']) == 2
    whole = measured_models.Learner(*measured_models.built(cfg, measured_models.whole_model(cfg), CPU))
    seen = []
    for role, network in whole.model.roles.items():
        for part in ('backbone', 'decode_head'):
            module = network.get_submodule(part if part == 'backbone' else 'decode_head.conv_seg')
            module.register_forward_hook(
                lambda module, args, out, name=(role, part): seen.append((*name, torch.is_grad_enabled()))
            )
    start = {key: value.clone() for key, value in whole.model.named_parameters()}
    step_cost.prefix(cfg, whole.model, 'teacher', [Tap('teacher', 'backbone.layer4')], batches)(0)()
    assert seen == [('teacher', 'backbone', False)]
    seen.clear()
    found = step_cost.watched_step(whole, batches[0], CPU)
    assert seen == [('teacher', 'backbone', False), ('student', 'backbone', True), ('student', 'decode_head', True)]
    assert min(found.values()) > 0
    # nothing is learned, so that every round costs the same
    assert all(torch.equal(value, start[key]) for key, value in whole.model.named_parameters())
    assert not any(part._forward_hooks for part in whole.model.distillers.values())


def test_own_modules_run_and_step_without_the_roles(data):
    cfg = offline(data)
    init_default_scope('mmseg')
    whole = measured_models.Learner(*measured_models.built(cfg, measured_models.whole_model(cfg), CPU))
    run = step_cost.own_modules(whole, measured_models.load_batches(cfg))(0)
    (weight,) = whole.model.connectors.parameters()
    seen = []
    hooks = [weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.abs().sum() > 0))]
    hooks += [m.register_forward_hook(lambda *a: seen.append('role')) for m in whole.model.roles.modules()]
    step = torch.optim.SGD.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, 'step', lambda self: seen.append(self.param_groups[0]['params']) or step(self))
        run()
    assert seen[0] and seen[1][0] is weight and len(seen) == 2 and weight.grad is None


def test_a_generator_is_measured_as_the_methods_own(data):
    cfg = offline(data)
    loss = dict(type='MaskedGeneration', mask_ratio=0.5)
    cfg.model.distillers = [
        dict(type='mmadm.Transfer', source='teacher', learner='student', at='backbone.layer4', loss=loss)
    ]
    costs = step_cost.measure(cfg, rounds=1)
    assert list(costs.milliseconds)[:4] == [*OFFLINE_ROWS, WHOLE, OWN] and costs.milliseconds[OWN][0] > 0
    assert [ratio.target for ratio in costs.ratios] == [None, 1.02, None, None]


def test_the_command_prints_every_row_and_ratio(data, tmp_path, capsys):
    cfg = offline(data)
    cfg.dump(tmp_path / 'small_segmentors.py')
    options = ['--iterations', '1', '--cfg-options', 'train_dataloader.batch_size=3']
    assert main(['cost', str(tmp_path / 'small_segmentors.py'), *options]) == 0
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
def test_what_cannot_be_measured_is_refused(cfg, rounds, message):
    with pytest.raises(ValueError, match=message):
        step_cost.measure(Config(cfg), rounds)
