"""Semi-online: a frozen teacher, a bridge that is its trainable tail, a student."""

from copy import deepcopy

import pytest
import small_detectors
import torch
from mmengine.runner.checkpoint import load_state_dict
from role_outputs import levels, run_roles
from small_segmentors import batch, build, distillation, plain_optimiser, segmentor, train

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


@pytest.mark.parametrize('teacher_dtype', [None, 'bfloat16'])
def test_the_bridge_is_fed_by_the_teacher(teacher_file, teacher_dtype):
    """What comes before the cut runs once, and the tail gets just what the teacher has computed there.

    The teacher's ReLU changes what bn1 has given in place, so the bridge makes that itself.
    """
    model = semi_online(teacher_file, teacher_dtype=teacher_dtype)
    ran, into_tail, from_teacher = [], [], []
    for role in ('teacher', 'bridge'):
        network = model.roles[role]
        for path in ('conv1', 'bn1', 'layer1', 'layer3', 'layer4'):
            part = network.backbone.get_submodule(path)
            part.register_forward_hook(lambda *_, name=f'{role}.{path}': ran.append(name))
    model.roles['teacher'].backbone.layer3.register_forward_hook(lambda *call: from_teacher.append(call[-1]))
    model.roles['bridge'].backbone.layer4.register_forward_pre_hook(lambda _, args: into_tail.append(args[0]))
    before = {name: id(module) for name, module in model.named_modules()}
    data = model.data_preprocessor(batch(), True)
    losses = model(**data, mode='loss')
    teacher = [f'teacher.{path}' for path in ('conv1', 'bn1', 'layer1', 'layer3', 'layer4')]
    assert ran == [*teacher, 'bridge.bn1', 'bridge.layer4']
    assert not into_tail[0].requires_grad and into_tail[0].dtype == torch.float32
    assert torch.equal(into_tail[0], from_teacher[0].float())
    losses['bridge.decode.loss_ce'].backward()
    # the network is whole again, and predicts with its own modules
    assert before == {name: id(module) for name, module in model.named_modules()}
    ran.clear()
    model.predicting = 'bridge'
    model.eval()(data['inputs']['bridge'], data['data_samples']['bridge'], mode='tensor')
    assert ran == [name.replace('teacher', 'bridge') for name in teacher]


def losses_fed_or_not(make, steps=2):
    """Losses of a bridge that goes on from its teacher, and of one that runs its whole network itself."""
    losses = []
    for fed in (True, False):
        model = make()
        if not fed:
            model._runner._prefixes.clear()
        losses.append(train(model, steps))
    return losses


def test_feeding_changes_no_number(teacher_file):
    """The same step as with a bridge that runs its whole network itself."""
    assert semi_online(teacher_file)._runner._prefixes['bridge'].paths == (
        'backbone.conv1',
        *(f'backbone.layer{n}' for n in (1, 2, 3)),
    )
    fed, own = losses_fed_or_not(lambda: semi_online(teacher_file))
    assert fed == own


def test_what_is_changed_in_place_is_not_fed(teacher_file):
    """A block adds its input to what its last normalisation has given."""
    model = semi_online(teacher_file, tail=['backbone.layer2.0.downsample'])
    paths = model._runner._prefixes['bridge'].paths
    assert 'backbone.layer2.0.conv2' in paths and 'backbone.layer2.0.bn2' not in paths
    fed, own = losses_fed_or_not(lambda: semi_online(teacher_file, tail=['backbone.layer2.0.downsample']))
    assert fed == own


@pytest.mark.parametrize('at', ['backbone.layer2.0', 'backbone.layer2.0.conv1', 'backbone.layer2.0.bn2'])
def test_a_tap_inside_of_what_the_bridge_is_fed_with_works(teacher_file, at):
    hint = dict(type='Transfer', source='bridge', learner='student', at=at, loss=dict(type='HintMSE'))
    fed, own = losses_fed_or_not(lambda: semi_online(teacher_file, distillers=[SOKD, hint]))
    assert fed == own and fed[0]['student.loss_transfer'] > 0


def test_two_bridges_of_one_teacher_are_fed_up_to_their_own_cuts(teacher_file):
    roles = dict(
        student=segmentor(4),
        teacher=dict(cfg=segmentor(8), checkpoint=teacher_file),
        short=dict(like='teacher', train=TAIL),
        long=dict(like='teacher', train=['backbone.layer2', *TAIL]),
    )
    both = dict(roles=roles, frozen=['teacher'], distillers=[dict(SOKD, bridge='short'), dict(SOKD, bridge='long')])
    fed, own = losses_fed_or_not(lambda: distillation(**both), steps=1)
    assert fed == own
    model = distillation(**both)
    before = deepcopy(model.roles['long'].state_dict())
    train(model, steps=1)
    moved = {k for k, p in model.roles['long'].named_parameters() if not torch.equal(p, before[k])}
    assert any(key.startswith('backbone.layer2') for key in moved)


def test_what_runs_after_a_learning_part_is_no_prefix(teacher_file):
    assert semi_online(teacher_file, tail=['backbone.conv1'])._runner._prefixes['bridge'].paths == ()
    tail = ['backbone.layer2', 'decode_head.conv_seg']
    assert semi_online(teacher_file, tail=tail)._runner._prefixes['bridge'].paths == (
        'backbone.conv1', 'backbone.layer1',
    )  # fmt: skip
    # a whole decode head is never called as a module, its children are
    paths = semi_online(teacher_file, tail=['decode_head'])._runner._prefixes['bridge'].paths
    assert paths == ('backbone',)


def test_a_bridge_that_is_no_copy_runs_its_own_network(teacher_file):
    other = dict(segmentor(8)['data_preprocessor'], mean=[0.0, 0.0, 0.0])
    bridge = dict(like='teacher', train=TAIL)
    roles = dict(
        student=segmentor(4), teacher=dict(cfg=dict(segmentor(8), data_preprocessor=other), checkpoint=teacher_file)
    )
    same = distillation(roles=dict(roles, bridge=bridge), frozen=['teacher'], distillers=[SOKD])
    assert 'bridge' in same._runner._prefixes
    for own in (dict(cfg=segmentor(8), checkpoint=teacher_file), dict(like='teacher', checkpoint=teacher_file)):
        named = dict(roles, bridge=dict(own, train=TAIL))
        assert not distillation(roles=named, frozen=['teacher'], distillers=[SOKD])._runner._prefixes


def test_a_bridge_has_the_weights_of_a_teacher_without_a_checkpoint():
    roles = dict(student=segmentor(4), teacher=segmentor(8), bridge=dict(like='teacher', train=TAIL))

    def make():
        return distillation(roles=roles, frozen=['teacher'], distillers=[SOKD])

    model = make()
    teacher = model.roles['teacher'].state_dict()
    assert all(torch.equal(value, teacher[key]) for key, value in model.roles['bridge'].state_dict().items())
    plain = distillation(roles=dict(student=segmentor(4), teacher=segmentor(8)), frozen=['teacher'])
    assert all(torch.equal(value, teacher[key]) for key, value in plain.roles['teacher'].state_dict().items())
    fed, own = losses_fed_or_not(make)
    assert fed == own
    data = model.data_preprocessor(batch(), True)
    ran = []
    model.roles['bridge'].backbone.layer3.register_forward_hook(lambda *_: ran.append('layer3'))
    model(**data, mode='loss')
    assert not ran


def test_a_bridge_whose_frozen_part_was_loaded_otherwise_runs_it(teacher_file):
    """Such as from a training with another teacher; before or after the first step."""
    model = semi_online(teacher_file)
    twin = deepcopy(model)
    original = deepcopy(model.state_dict())
    other = {key: value * 1.5 if key == 'roles.bridge.backbone.layer2.0.conv1.weight' else value
             for key, value in original.items()}  # fmt: skip
    ran = []
    model.roles['bridge'].backbone.layer3.register_forward_hook(lambda *_: ran.append('layer3'))
    data = model.data_preprocessor(batch(), True)
    for load, runs in ((original, 0), (other, 1), (original, 0)):
        load_state_dict(model, load)  # as a Runner resumes
        ran.clear()
        torch.manual_seed(0)
        losses = model(**data, mode='loss')
        assert len(ran) == runs
        twin.load_state_dict(load)
        if runs:
            twin._runner._prefixes.clear()
        torch.manual_seed(0)
        assert losses['bridge.decode.loss_ce'] == twin(**data, mode='loss')['bridge.decode.loss_ce']


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
    outputs = run_roles(model, data)
    z = {role: levels(outputs, role, 'logits')[0].double() for role in outputs}
    valid = (outputs['student'].truth.labels != 255)[:, None].float()
    mask = torch.nn.functional.interpolate(valid, z['student'].shape[2:])[:, 0] > 0
    expected = 2.0 * kl_divergence(z['bridge'], z['teacher'], 3.0, mask)
    torch.testing.assert_close(losses['bridge.loss_from_teacher'], expected.float(), rtol=1e-4, atol=1e-6)


def test_a_detection_bridge_is_neck_and_head(tmp_path):
    teacher = small_detectors.build(small_detectors.detector('fcos', 8), seed=5)
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    roles = dict(
        student=small_detectors.detector('fcos', 4),
        teacher=dict(cfg=small_detectors.detector('fcos', 8), checkpoint=str(tmp_path / 'teacher.pth')),
        bridge=dict(like='teacher', train=['neck', 'bbox_head']),
    )
    model = small_detectors.distillation(roles=roles, frozen=['teacher'], distillers=[SOKD])
    before = deepcopy(model.state_dict())
    log = model.train_step(small_detectors.batch(), plain_optimiser(model, lr=0.001))
    moved = {'.'.join(k.split('.')[1:3]) for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert {m for m in moved if m.startswith('bridge')} == {'bridge.neck', 'bridge.bbox_head'}
    assert not any(m.startswith('teacher') for m in moved) and log['student.loss_from_bridge'] > 0


def test_a_role_like_another_can_be_exported_as_it():
    roles = dict(teacher=dict(cfg='a.py', checkpoint='b.pth'), bridge=dict(like='teacher', train=['x']))
    assert role_cfgs(roles)['bridge'] == dict(cfg='a.py', checkpoint='b.pth', train=['x'])
    roles['bridge']['checkpoint'] = 'c.pth'
    assert role_cfgs(roles)['bridge'] == dict(cfg='a.py', checkpoint='c.pth', train=['x'])
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
