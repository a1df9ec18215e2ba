"""``AmpRoleOptimWrapperDict`` on the CPU: bfloat16 trains, float16 shares one loss scale."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn
from torch.optim import SGD

from mmadm.engine.optim import AmpRoleOptimWrapperDict, ScaledOptimWrapper
from mmadm.utils.errors import ConfigError


def amp(model: nn.Module, **kwargs) -> AmpRoleOptimWrapperDict:
    """Student lr 0.1, clipped if ``clip_grad`` is given; teacher lr 0.01."""
    clip_grad, counts = kwargs.pop('clip_grad', None), kwargs.pop('accumulative_counts', 1)
    members = {
        role: ScaledOptimWrapper(
            optimizer=SGD(model.owned_by(role).parameters(), lr=lr),
            clip_grad=clip_grad if role == 'student' else None,
            accumulative_counts=counts,
        )
        for role, lr in (('student', 0.1), ('teacher', 0.01))
    }
    return AmpRoleOptimWrapperDict(**kwargs, **members)


def loss_of(model: nn.Module, x: tuple[float, float], student: float = 1.0, teacher: float = 1.0) -> Tensor:
    losses = model([torch.tensor(x)])
    return student * losses['student.loss'] + teacher * losses['teacher.loss']


def student_weight(model: nn.Module) -> Tensor:
    return model.roles['student'].weight.data


def teacher_weight(model: nn.Module) -> Tensor:
    return model.roles['teacher'].weight.data


@pytest.mark.parametrize('dtype', [None, 'bfloat16', torch.bfloat16])
def test_bfloat16_autocasts_and_needs_no_scaler(pair, dtype):
    wrapper = amp(pair, dtype=dtype)
    seen = []
    pair.roles['teacher'].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    pair.train_step({'inputs': [torch.tensor((1.0, 3.0))]}, wrapper)
    assert seen == [torch.bfloat16]
    assert not wrapper.loss_scaler.is_enabled()
    # the values of the float32 test, exact in bfloat16 up to the parameters' own float32 steps
    assert student_weight(pair).dtype is torch.float32
    torch.testing.assert_close(student_weight(pair), torch.tensor([[0.95, 1.85]]))
    torch.testing.assert_close(teacher_weight(pair), torch.tensor([[2.98, -1.06]]))


def test_overflow_in_one_role_skips_only_that_role(pair):
    wrapper = amp(pair, dtype='float16', loss_scale={'init_scale': 1024.0})
    student = student_weight(pair).clone()
    wrapper.update_params(loss_of(pair, (1.0, 3.0), student=float('inf')))
    assert torch.equal(student_weight(pair), student)
    # t: gradient 2 * (1, 3), divided by 1024 exactly once
    torch.testing.assert_close(teacher_weight(pair), torch.tensor([[2.98, -1.06]]))
    assert wrapper.loss_scaler.get_scale() == 512.0
    assert all(param.grad is None for param in pair.parameters())
    wrapper.update_params(loss_of(pair, (1.0, 3.0)))
    torch.testing.assert_close(student_weight(pair), torch.tensor([[0.95, 1.85]]))
    torch.testing.assert_close(teacher_weight(pair), torch.tensor([[2.96, -1.12]]))


def test_overflow_in_both_roles_halves_the_scale_once(pair):
    wrapper = amp(pair, dtype='float16', loss_scale={'init_scale': 1024.0})
    wrapper.update_params(loss_of(pair, (1.0, 3.0), student=float('inf'), teacher=float('inf')))
    assert wrapper.loss_scaler.get_scale() == 512.0


def test_clipping_sees_unscaled_gradients(pair):
    hub = MessageHub.get_instance('amp_grad_norm')
    wrapper = amp(pair, dtype='float16', loss_scale={'init_scale': 1024.0}, clip_grad={'max_norm': 1.0})
    wrapper.update_params(loss_of(pair, (2.0, 1.0)))
    # gradients: s 0.5 * (2, 1), c 1 * 2 + 2 * 1 = 4, so the norm is sqrt(1.25 + 16)
    norm = 17.25**0.5
    assert hub.get_scalar('train/student.grad_norm').current() == pytest.approx(norm)
    torch.testing.assert_close(student_weight(pair), torch.tensor([[1.0 - 0.1 / norm, 2.0 - 0.05 / norm]]))
    torch.testing.assert_close(teacher_weight(pair), torch.tensor([[2.96, -1.02]]))


def test_a_role_without_gradient_is_left_alone(pair):
    wrapper = amp(pair, dtype='float16', loss_scale={'init_scale': 1024.0, 'growth_interval': 1})
    teacher = teacher_weight(pair).clone()
    wrapper.update_params(pair([torch.tensor((1.0, 3.0))])['student.loss'])
    assert torch.equal(teacher_weight(pair), teacher)
    torch.testing.assert_close(student_weight(pair), torch.tensor([[0.95, 1.85]]))
    assert wrapper.loss_scaler.get_scale() == 2048.0  # the scale grows once, from the student's step


def test_accumulated_gradients_are_unscaled_once(pair):
    wrapper = amp(pair, dtype='float16', loss_scale={'init_scale': 1024.0}, accumulative_counts=2)
    wrapper.initialize_count_status(pair, 0, 3)
    before = teacher_weight(pair).clone()
    wrapper.update_params(loss_of(pair, (1.0, 3.0)))
    assert torch.equal(teacher_weight(pair), before)
    wrapper.update_params(loss_of(pair, (3.0, 1.0)))
    # mean input (2, 2): gradient (4, 4)
    torch.testing.assert_close(teacher_weight(pair), torch.tensor([[2.96, -1.04]]))
    wrapper.update_params(loss_of(pair, (1.0, 0.0)))  # the remainder: one batch alone, gradient (2, 0)
    torch.testing.assert_close(teacher_weight(pair), torch.tensor([[2.94, -1.04]]))


@pytest.mark.parametrize(('loss_scale', 'first', 'after_overflow'), [
    ('dynamic', 65536.0, 32768.0), (512.0, 512.0, 512.0), (8, 8.0, 8.0), ({'init_scale': 64.0}, 64.0, 32.0),
])  # fmt: skip
def test_loss_scale_means_what_it_means_in_stock(pair, loss_scale, first, after_overflow):
    wrapper = amp(pair, dtype='float16', loss_scale=loss_scale)
    assert wrapper.loss_scaler.get_scale() == first
    wrapper.update_params(loss_of(pair, (1.0, 3.0), teacher=float('inf')))
    assert wrapper.loss_scaler.get_scale() == after_overflow


def test_the_scale_is_saved_and_resumed(make_pair):
    model = make_pair()
    wrapper = amp(model, dtype='float16', loss_scale={'init_scale': 1024.0})
    wrapper.update_params(loss_of(model, (1.0, 1.0), teacher=float('inf')))
    state = copy.deepcopy(wrapper.state_dict())
    assert set(state) == {'student', 'teacher', 'loss_scaler'}
    resumed = amp(make_pair(), dtype='float16')
    resumed.load_state_dict(state)
    assert resumed.loss_scaler.get_scale() == 512.0
    assert 'loss_scaler' in state


def test_state_without_a_scale_leaves_the_configured_one(make_pair):
    wrapper = amp(make_pair(), dtype='float16', loss_scale={'init_scale': 1024.0})
    bfloat16_state = amp(make_pair(), dtype='bfloat16').state_dict()
    wrapper.load_state_dict(bfloat16_state)
    wrapper.load_state_dict({role: bfloat16_state[role] for role in ('student', 'teacher')})
    assert wrapper.loss_scaler.get_scale() == 1024.0


@pytest.mark.parametrize(('kwargs', 'message'), [
    ({'dtype': 'float8'}, r"optim_wrapper.dtype: found 'float8'.*float16.*bfloat16"),
    ({'dtype': torch.float64}, r"optim_wrapper.dtype: found 'float64'"),
    ({'loss_scale': 'static'}, r"optim_wrapper.loss_scale: found 'static'.*'dynamic'"),
])  # fmt: skip
def test_what_amp_cannot_do_is_refused(pair, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        amp(pair, **kwargs)
