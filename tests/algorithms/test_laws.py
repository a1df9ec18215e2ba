"""The five laws of design.md, each on real segmentors."""

from copy import deepcopy

import pytest
import torch
from small_segmentors import batch, build, distillation, plain_optimiser, segmentor, train

MUTUAL = dict(type='MutualLearning', roles=['student', 'teacher'])
ADM = dict(type='ADM', at='backbone.layer4', consensus=1.0, divergence=0.5)
KD = dict(type='Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence', tau=2.0))


def losses_of(model, seed=0):
    """Every separate loss of one training forward pass."""
    return model(**model.data_preprocessor(batch(seed=seed), True), mode='loss')


def gradients(model, loss):
    """Parameters of the model that a loss reaches with a gradient other than zero, by name."""
    named = dict(model.named_parameters())
    wanted = {name: p for name, p in named.items() if p.requires_grad}
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, retain_graph=True)
    return {name for name, g in zip(wanted, found, strict=True) if g is not None and g.abs().max() > 0}


# ---- law 1: routing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'distillers',
    [
        [MUTUAL],
        [ADM],
        [KD],
        [dict(ADM, at=['backbone.layer3', 'feats'])],
        [dict(MUTUAL, at='backbone.layer4.1.conv2')],
        [MUTUAL, ADM],
    ],
    ids=['mutual', 'adm', 'transfer', 'adm-several-taps', 'mutual-other-tap', 'both'],
)
def test_each_loss_moves_its_learner_and_nothing_else(distillers):
    if distillers[0].get('at') == 'backbone.layer4.1.conv2':  # KL on features needs equal channels
        model = distillation(roles=dict(student=segmentor(4), teacher=segmentor(4)), distillers=distillers)
    else:
        model = distillation(distillers=distillers)
    for key, loss in losses_of(model).items():
        if 'loss' not in key:
            assert not loss.requires_grad, key
            continue
        learner = key.partition('.')[0]
        reached = gradients(model, loss)
        strangers = {n for n in reached if not n.startswith((f'roles.{learner}.', 'connectors.'))}
        assert not strangers, f'{key} reaches {sorted(strangers)[:3]}'
        assert any(n.startswith(f'roles.{learner}.') for n in reached), f'{key} moves nothing'
        if learner == 'teacher':  # the connector belongs to the student
            assert not any(n.startswith('connectors.') for n in reached), key


def test_three_networks_are_routed_and_averaged():
    roles = dict(student=segmentor(4), a=segmentor(8), b=segmentor(4))
    adm = dict(type='ADM', student='student', teacher=['a', 'b'], at='feats')
    mutual = dict(type='MutualLearning', roles=['student', 'a', 'b'])
    model = distillation(roles=roles, distillers=[mutual, adm])
    losses = losses_of(model)
    assert {k for k in losses if 'consensus' in k or 'divergence' in k or 'mutual' in k} == {
        'student.loss_mutual', 'a.loss_mutual', 'b.loss_mutual',
        'student.loss_consensus', 'a.loss_divergence', 'b.loss_divergence',
    }  # fmt: skip
    assert all(
        n.startswith(('roles.student', 'connectors.')) for n in gradients(model, losses['student.loss_consensus'])
    )
    assert all(n.startswith('roles.b') for n in gradients(model, losses['b.loss_divergence']))
    pair = [distillation(roles=roles, distillers=[dict(adm, teacher=name)]) for name in ('a', 'b')]
    for single in pair:  # the connectors of the joint model, so that only the averaging is compared
        for key, connector in single.connectors.items():
            for name, module in connector.items():
                module.load_state_dict(model.connectors[key][name.replace('feats', 'feats_student_a')].state_dict())
    alone = [losses_of(single)['student.loss_consensus'] for single in pair]
    torch.testing.assert_close(losses['student.loss_consensus'], torch.stack(alone).mean())


# ---- law 2: one backward --------------------------------------------------------------------------------------------


def test_one_backward_trains_every_role_as_separate_backwards_would():
    model = distillation(distillers=[MUTUAL, ADM])
    losses = losses_of(model)
    total, _ = model.parse_losses(losses)
    parameters = [p for p in model.parameters() if p.requires_grad]
    together = torch.autograd.grad(total, parameters, retain_graph=True)
    apart = [torch.zeros_like(p) for p in parameters]
    for key in (k for k in losses if 'loss' in k):
        for sum_, g in zip(
            apart, torch.autograd.grad(losses[key], parameters, allow_unused=True, retain_graph=True), strict=True
        ):
            if g is not None:
                sum_ += g
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_totals_of_roles_add_up():
    log = train(distillation(distillers=[MUTUAL, ADM]), steps=1)[0]
    assert log['loss'] == pytest.approx(log['student.loss'] + log['teacher.loss'], rel=1e-5)
    parts = [v for k, v in log.items() if k.startswith('student.') and 'loss' in k and k != 'student.loss']
    assert len(parts) == 3 and log['student.loss'] == pytest.approx(sum(parts), rel=1e-5)


# ---- law 4: off is off ----------------------------------------------------------------------------------------------


def stock_run(steps=4):
    model = build(segmentor(4, dropout=0.5))
    return train(model, steps), model


def assert_student_equals_stock(model, logs, stock_logs, stock):
    for mine, theirs in zip(logs, stock_logs, strict=True):
        assert mine['student.decode.loss_ce'] == theirs['decode.loss_ce']
    weights = model.roles['student'].state_dict()
    assert all(torch.equal(weights[k], v) for k, v in stock.state_dict().items())


def test_one_role_without_distiller_is_the_stock_toolbox():
    stock_logs, stock = stock_run()
    model = distillation(roles=dict(student=segmentor(4, dropout=0.5)))
    logs = train(model, 4)
    assert [x['loss'] for x in logs] == [x['loss'] for x in stock_logs]
    assert_student_equals_stock(model, logs, stock_logs, stock)


@pytest.mark.parametrize('frozen', [[], ['teacher']], ids=['online', 'offline'])
def test_weights_zero_is_the_stock_toolbox_even_with_dropout_in_both_roles(frozen):
    stock_logs, stock = stock_run()
    roles = dict(student=segmentor(4, dropout=0.5), teacher=segmentor(8, dropout=0.5))
    off = [dict(MUTUAL, weight=0), dict(ADM, consensus=0, divergence=0), dict(KD, weight=0)]
    model = distillation(roles=roles, distillers=off, frozen=frozen)
    logs = train(model, 4)
    assert_student_equals_stock(model, logs, stock_logs, stock)
    if not frozen:  # and the teacher trains too, on a random stream of its own
        assert logs[0]['teacher.decode.loss_ce'] != logs[1]['teacher.decode.loss_ce']


def test_weights_not_zero_do_change_the_student():
    stock_logs, _ = stock_run()
    roles = dict(student=segmentor(4, dropout=0.5), teacher=segmentor(8, dropout=0.5))
    logs = train(distillation(roles=roles, distillers=[MUTUAL]), 4)
    assert logs[0]['student.decode.loss_ce'] == stock_logs[0]['decode.loss_ce']
    assert logs[3]['student.decode.loss_ce'] != stock_logs[3]['decode.loss_ce']


# ---- law 5: frozen is frozen ----------------------------------------------------------------------------------------


def test_a_frozen_role_is_untouched_and_in_eval_throughout():
    model = distillation(distillers=[KD, ADM, MUTUAL], frozen=['teacher'])
    before = deepcopy(model.roles['teacher'].state_dict())
    modes = []
    handle = model.roles['teacher'].backbone.register_forward_hook(lambda m, *_: modes.append(m.training))
    logs = train(model, 3)
    handle.remove()
    assert modes == [False] * 3
    for mode in (True, False, True):
        model.train(mode)
        assert not any(m.training for m in model.roles['teacher'].modules())
    assert all(torch.equal(before[k], v) for k, v in model.roles['teacher'].state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in model.roles['teacher'].parameters())
    assert not [k for k in logs[0] if k.startswith('teacher.')]


def test_a_frozen_role_runs_no_further_than_its_last_tap():
    def calls(at):
        model = distillation(
            roles=dict(student=segmentor(4), teacher=segmentor(4, auxiliary=True)), frozen=['teacher'],
            distillers=[dict(type='ADM', at=at)],
        )  # fmt: skip
        seen = []
        for name, module in model.roles['teacher'].named_modules():
            module.register_forward_hook(lambda *_, name=name: seen.append(name))
        losses_of(model)
        return seen

    inside = calls('backbone.layer4')
    assert 'backbone.layer4' in inside and not [n for n in inside if 'head' in n]
    assert not [n for n in calls('logits') if 'auxiliary' in n]
    assert 'decode_head.conv_seg' in calls('logits')


def test_a_stopped_distiller_costs_neither_loss_nor_teacher():
    model = distillation(distillers=[dict(KD, schedule=dict(stop=2))], frozen=['teacher'])
    seen = []
    model.roles['teacher'].backbone.register_forward_hook(lambda *_: seen.append(1))
    logs = train(model, 4)
    assert ['student.loss_transfer' in log for log in logs] == [True, True, False, False]
    assert len(seen) == 2


# ---- features do not outlive the step -------------------------------------------------------------------------------


def test_no_hook_stays_and_the_model_can_be_copied():
    model = distillation(distillers=[MUTUAL, ADM])
    train(model, 1, plain_optimiser(model))
    assert not any(m._forward_hooks for m in model.modules())
    twin = deepcopy(model)
    torch.manual_seed(5)
    a = losses_of(model)
    torch.manual_seed(5)
    b = losses_of(twin)
    assert {k: float(v) for k, v in a.items()} == {k: float(v) for k, v in b.items()}
