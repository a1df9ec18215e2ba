"""Semi-online: a frozen teacher, a bridge that is its trainable tail, a student."""

from copy import deepcopy

import pytest
import tiny_det
import torch
from tiny import batch, build, distillation, plain_optimiser, segmentor, train

from mmadm.functional import kl_divergence
from mmadm.utils.config import role_cfgs
from mmadm.utils.errors import ConfigError

TAIL = ['backbone.layer4', 'decode_head']
SOKD = dict(type='SOKD')


@pytest.fixture(scope='module')
def teacher_file(tmp_path_factory):
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    teacher = build(segmentor(8), seed=5)
    train(teacher, steps=2)
    torch.save(dict(state_dict=teacher.state_dict()), path)
    return str(path)


def semi_online(teacher_file, tail=TAIL, **options):
    roles = dict(
        student=segmentor(4),
        teacher=dict(cfg=segmentor(8), checkpoint=teacher_file),
        bridge=dict(like='teacher', train=tail),
    )
    return distillation(**{**dict(roles=roles, frozen=['teacher'], distillers=[SOKD]), **options})


def test_the_bridge_starts_as_the_teacher_and_sees_its_features(teacher_file):
    model = semi_online(teacher_file)
    for mine, theirs in zip(model.roles['bridge'].parameters(), model.roles['teacher'].parameters(), strict=True):
        assert torch.equal(mine, theirs)
    train(model, steps=2)
    inputs = model.data_preprocessor(batch(), True)['inputs']
    with torch.no_grad():  # in training mode, as in a step
        seen = [model.roles[role].backbone(inputs[role]) for role in ('bridge', 'teacher')]
    for level in range(3):
        assert torch.equal(seen[0][level], seen[1][level])
    assert not torch.equal(seen[0][3], seen[1][3])


def test_only_student_and_tail_move(teacher_file):
    model = semi_online(teacher_file)
    before = deepcopy(model.state_dict())
    train(model, steps=2)
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    roles = {key.split('.')[1] for key in moved}
    assert roles == {'student', 'bridge'}
    assert all(key.startswith(tuple(f'roles.bridge.{part}' for part in TAIL)) for key in moved if 'bridge' in key)
    assert any('bridge.backbone.layer4' in key and 'running_mean' in key for key in moved)
    assert not any(module.training for module in model.roles['bridge'].backbone.layer3.modules())


def test_each_loss_moves_its_learner_alone_and_has_its_value(teacher_file):
    model = semi_online(teacher_file, distillers=[dict(SOKD, tau=3.0, bridge_from_teacher=2.0)])
    data = model.data_preprocessor(batch(), True)
    losses = model(**data, mode='loss')
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for key in ('bridge.loss_from_teacher', 'bridge.loss_from_student', 'student.loss_from_bridge'):
        grads = torch.autograd.grad(losses[key], list(named.values()), allow_unused=True, retain_graph=True)
        reached = {n.split('.')[1] for n, g in zip(named, grads, strict=True) if g is not None and g.any()}
        # at the start bridge and teacher differ by dropout and batch statistics only
        assert reached == {key.partition('.')[0]}, key
    outputs = model._run_roles(data['inputs'], data['data_samples'], dict(model.distillers.items()), 0)
    z = {role: out.taps['logits'][0].double() for role, out in outputs.items()}
    mask = torch.nn.functional.interpolate(outputs['student'].valid[:, None].float(), z['student'].shape[2:])[:, 0] > 0
    expected = 2.0 * kl_divergence(z['bridge'], z['teacher'], 3.0, mask)
    torch.testing.assert_close(losses['bridge.loss_from_teacher'], expected.float(), rtol=1e-4, atol=1e-6)


def test_a_detection_bridge_is_neck_and_head(tmp_path):
    teacher = tiny_det.build(tiny_det.detector('fcos', 8), seed=5)
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    roles = dict(
        student=tiny_det.detector('fcos', 4),
        teacher=dict(cfg=tiny_det.detector('fcos', 8), checkpoint=str(tmp_path / 'teacher.pth')),
        bridge=dict(like='teacher', train=['neck', 'bbox_head']),
    )
    model = tiny_det.distillation(roles=roles, frozen=['teacher'], distillers=[SOKD])
    before = deepcopy(model.state_dict())
    log = model.train_step(tiny_det.batch(), plain_optimiser(model, lr=0.001))
    moved = {'.'.join(k.split('.')[1:3]) for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert {m for m in moved if m.startswith('bridge')} == {'bridge.neck', 'bridge.bbox_head'}
    assert not any(m.startswith('teacher') for m in moved) and log['student.loss_from_bridge'] > 0


def test_a_role_like_another_can_be_exported_as_it():
    roles = dict(teacher=dict(cfg='a.py', checkpoint='b.pth'), bridge=dict(like='teacher', train=['x']))
    assert role_cfgs(roles)['bridge'] == dict(cfg='a.py', checkpoint='b.pth', train=['x'])
    assert role_cfgs(dict(teacher=segmentor(4), bridge=dict(like='teacher')))['bridge'] == dict(cfg=segmentor(4))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(tail=['backbone.layer5']), r"roles\.bridge\.train: no module 'backbone\.layer5'; did you mean 'backbone"),
        (dict(tail=['decode_head.dropout']), 'has no parameters to learn'),
        (dict(frozen=[]), "SOKD: role 'teacher' learns"),
        (dict(frozen=['teacher', 'student']), "SOKD: role 'student' is frozen"),
    ],
)
def test_a_cut_that_does_not_exist_is_refused(teacher_file, options, message):
    with pytest.raises(ConfigError, match=message):
        semi_online(teacher_file, **options)


def test_a_role_like_nobody_is_refused():
    with pytest.raises(ConfigError, match=r"roles\.bridge\.like='techer'.*did you mean 'teacher'"):
        distillation(roles=dict(student=segmentor(4), teacher=segmentor(4), bridge=dict(like='techer')))
