"""``RoleOptimWrapperDict`` against hand-computed steps and against the stock ``OptimWrapper``."""

from __future__ import annotations

import copy
import re
from contextlib import contextmanager

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn
from torch.optim import SGD

from mmadm.engine.optim import AmpRoleOptimWrapperDict, RoleOptimWrapperDict, ScaledOptimWrapper
from mmadm.utils.errors import CheckpointError, ConfigError


def params_of(model: nn.Module, role: str) -> list[nn.Parameter]:
    return list(model.owned_by(role).parameters())


def per_role(model: nn.Module, momentum: float = 0.0, **kwargs) -> RoleOptimWrapperDict:
    """Student lr 0.1, teacher lr 0.01."""
    return RoleOptimWrapperDict(
        student=OptimWrapper(SGD(params_of(model, 'student'), lr=0.1, momentum=momentum), **kwargs),
        teacher=OptimWrapper(SGD(params_of(model, 'teacher'), lr=0.01, momentum=momentum), **kwargs),
    )


def stock(model: nn.Module, momentum: float = 0.0, **kwargs) -> OptimWrapper:
    """The same optimisation in one stock wrapper with two parameter groups."""
    groups = [
        {'params': params_of(model, 'student'), 'lr': 0.1},
        {'params': params_of(model, 'teacher'), 'lr': 0.01},
    ]
    return OptimWrapper(SGD(groups, lr=1.0, momentum=momentum), **kwargs)


def batch(*rows: tuple[float, float]) -> dict:
    return {'inputs': [torch.tensor(row) for row in rows]}


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: param.detach().clone() for name, param in model.named_parameters()}


def test_one_backward_steps_every_role(pair):
    wrapper = per_role(pair)
    log = pair.train_step(batch((1.0, 3.0)), wrapper)
    # s . x = 7, so loss = 0.5 * 7 + 2 * (3 - 3); gradients: s 0.5 * (1, 3), c 7, t 2 * (1, 3)
    assert log['loss'].item() == pytest.approx(3.5)
    torch.testing.assert_close(pair.roles['student'].weight.data, torch.tensor([[0.95, 1.85]]))
    torch.testing.assert_close(pair.connectors['adm']['tap'].weight.data, torch.tensor([[-0.2]]))
    torch.testing.assert_close(pair.roles['teacher'].weight.data, torch.tensor([[2.98, -1.06]]))
    assert all(param.grad is None for param in pair.parameters())


@pytest.mark.parametrize(('accumulate', 'start', 'end'), [(1, 0, 4), (2, 0, 5), (3, 0, 8), (3, 4, 11)])
def test_equals_the_stock_wrapper_step_by_step(make_pair, accumulate, start, end):
    model, twin = make_pair(), make_pair()
    wrapper = per_role(model, momentum=0.9, accumulative_counts=accumulate)
    reference = stock(twin, momentum=0.9, accumulative_counts=accumulate)
    wrapper.initialize_count_status(model, start, end)
    reference.initialize_count_status(twin, start, end)
    for i in range(start, end):
        data = batch((1.0, 0.1 * i), (-0.5, 1.0))
        assert wrapper.should_sync() == reference.should_sync()
        model.train_step(data, wrapper)
        twin.train_step(data, reference)
        assert wrapper.should_update() == reference.should_update()
        assert wrapper.inner_count == reference.inner_count == i + 1
        assert {member.inner_count for member in wrapper.values()} == {i + 1}
        torch.testing.assert_close(weights(model), weights(twin))
    assert not torch.equal(weights(model)['roles.teacher.weight'], weights(make_pair())['roles.teacher.weight'])


@pytest.mark.parametrize('amp', [False, True])
def test_ranks_exchange_gradients_only_before_a_step(pair, amp):
    class Recorder(nn.Module):
        """Stands for DDP: counts how often ``no_sync`` is entered."""

        held = 0

        @contextmanager
        def no_sync(self):
            self.held += 1
            yield

    recorder, held = Recorder(), []
    if amp:
        members = {
            role: ScaledOptimWrapper(SGD(params_of(pair, role), lr=0.1), accumulative_counts=2)
            for role in ('student', 'teacher')
        }
        wrapper = AmpRoleOptimWrapperDict(dtype='bfloat16', **members)
    else:
        wrapper = per_role(pair, accumulative_counts=2)
    wrapper.initialize_count_status(pair, 0, 5)
    for _ in range(5):
        with wrapper.optim_context(recorder):
            losses = pair(**batch((1.0, 1.0)))
        held.append(recorder.held)
        wrapper.update_params(sum(losses.values()))
    assert held == [1, 1, 2, 2, 2]  # iterations 0 and 2 wait; 4 is the last one, so it steps


def test_zero_kwargs_reach_every_member(pair):
    wrapper = per_role(pair)
    loss = sum(pair(**batch((1.0, 1.0))).values())
    wrapper.update_params(loss, zero_kwargs={'set_to_none': False})
    assert all(param.grad is not None and not param.grad.any() for param in pair.parameters())


def test_gradient_norm_is_logged_by_role(pair):
    hub = MessageHub.get_instance('grad_norm_by_role')
    wrapper = RoleOptimWrapperDict(
        student=OptimWrapper(SGD(params_of(pair, 'student'), lr=0.1)),
        teacher=OptimWrapper(SGD(params_of(pair, 'teacher'), lr=0.01), clip_grad={'max_norm': 1.0}),
    )
    pair.train_step(batch((3.0, 4.0)), wrapper)
    # gradient of t is (6, 8): norm 10, clipped to (0.6, 0.8)
    assert hub.get_scalar('train/teacher.grad_norm').current() == pytest.approx(10.0)
    torch.testing.assert_close(pair.roles['teacher'].weight.data, torch.tensor([[2.994, -1.008]]))
    assert 'train/student.grad_norm' not in hub.log_scalars
    # s moves by its whole gradient 0.5 * (3, 4)
    torch.testing.assert_close(pair.roles['student'].weight.data, torch.tensor([[0.85, 1.8]]))


def test_unequal_accumulation_is_refused(pair):
    with pytest.raises(ConfigError, match=r'accumulative_counts.*student: 2, teacher: 1'):
        RoleOptimWrapperDict(
            student=OptimWrapper(SGD(params_of(pair, 'student'), lr=0.1), accumulative_counts=2),
            teacher=OptimWrapper(SGD(params_of(pair, 'teacher'), lr=0.1)),
        )


def test_no_role_is_refused():
    with pytest.raises(ConfigError, match='no role to optimise'):
        RoleOptimWrapperDict()


def test_saved_state_continues_the_momentum(make_pair, tmp_path):
    model = make_pair()
    wrapper = per_role(model, momentum=0.9)
    for _ in range(2):
        model.train_step(batch((1.0, -1.0)), wrapper)
    twin = copy.deepcopy(model)
    torch.save(wrapper.state_dict(), tmp_path / 'state.pth')
    resumed = per_role(twin, momentum=0.9)
    state = torch.load(tmp_path / 'state.pth', weights_only=True)
    resumed.load_state_dict({**state, 'loss_scaler': {'scale': 4.0}})  # a mixed-precision checkpoint loads as well
    for _ in range(2):
        model.train_step(batch((0.5, 2.0)), wrapper)
        twin.train_step(batch((0.5, 2.0)), resumed)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_loading_leaves_the_checkpoint_unchanged(pair):
    groups = [{'params': [param]} for param in params_of(pair, 'student')]
    wrapper = RoleOptimWrapperDict(student=OptimWrapper(SGD(groups, lr=0.1)))
    state = wrapper.state_dict()
    assert 'base_param_settings' in state['student']
    wrapper.load_state_dict(state)
    assert 'base_param_settings' in state['student']


@pytest.mark.parametrize('rename', [{'teacher': 'old'}, {'teacher': 'old', 'student': 'older'}, {'teacher': None}])
def test_state_of_other_roles_is_refused(pair, rename):
    state = per_role(pair).state_dict()
    for role, name in rename.items():
        state[name] = state.pop(role)
    state.pop(None, None)
    with pytest.raises(CheckpointError, match=rf"found {re.escape(str(sorted(state)))}.*\['student', 'teacher'\]"):
        per_role(pair).load_state_dict(state)
