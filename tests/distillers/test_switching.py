"""KDCL and SwitOKD with real segmentors and detectors; expert mode leaves the teacher exactly as it was."""

from copy import deepcopy

import pytest
import small_detectors
import torch
from small_segmentors import batch, distillation, plain_optimiser, segmentor, train

from mmadm.distillers import SwitOKD
from mmadm.utils.errors import ConfigError

ADM = dict(type='ADM', at='feats')
SWITCH = dict(type='SwitOKD')
KDCL = dict(type='KDCL', roles=['student', 'teacher'])


def routed(model, data):
    """Learners that each extra loss reaches."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = {}
    for key, loss in model(**model.data_preprocessor(data, True), mode='loss').items():
        if 'loss_kdcl' in key or 'loss_switokd' in key:
            grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
            found[key] = {n.split('.')[1] for n, g in zip(named, grads, strict=True) if g is not None and g.any()}
    return found


@pytest.mark.parametrize('ensemble', ['naive', 'minlogit'])
@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_kdcl_moves_each_role_alone(ensemble, task):
    options = dict(distillers=[dict(KDCL, ensemble=ensemble)])
    model = distillation(**options) if task == 'segmentation' else small_detectors.distillation('fcos', **options)
    data = batch() if task == 'segmentation' else small_detectors.batch()
    assert routed(model, data) == {f'{role}.loss_kdcl': {role} for role in ('student', 'teacher')}


@pytest.mark.parametrize('base', [KDCL, SWITCH])
def test_adm_goes_on_top_of_each(base):
    log = train(distillation(distillers=[base, ADM]), steps=1)[0]
    name = 'loss_kdcl' if base is KDCL else 'loss_switokd'
    assert {f'student.{name}', 'student.loss_consensus', 'teacher.loss_divergence'} <= set(log)


def forced(model, expert):
    """Class 1 everywhere; one role is nearly right, its doubts on another class than the errors of the wrong one."""
    data = model.data_preprocessor(batch(ignored_rows=0), True)
    for samples in data['data_samples'].values():
        for sample in samples:
            sample.gt_sem_seg.data.fill_(1)
    right, wrong = torch.tensor([-9.0, 2.0, -9.0, 0.0, -9.0]), torch.tensor([-9.0, 0.0, 3.0, -9.0, -9.0])
    with torch.no_grad():
        for role, bias in (('student', wrong if expert else right), ('teacher', right if expert else wrong)):
            head = model.roles[role].decode_head.conv_seg
            head.weight.mul_(1e-3)
            head.bias.copy_(bias)
    return data


def step(model, data, optimiser):
    losses = model(**data, mode='loss')
    total, log = model.parse_losses(losses)
    optimiser.update_params(total)
    return log


def test_in_expert_mode_the_teacher_stays_exactly_as_it_is():
    model = distillation(distillers=[SWITCH, ADM])
    optimiser = plain_optimiser(model)
    step(model, model.data_preprocessor(batch(), True), optimiser)  # momentum buffers are there
    data = forced(model, expert=True)
    before = deepcopy(model.state_dict())
    momentum = {id(p): s['momentum_buffer'].clone() for p, s in optimiser.optimizer.state.items()}
    log = step(model, data, optimiser)
    assert log['teacher.expert'] == 1 and not any('loss' in k and k.startswith('teacher.') for k in log)
    changed = {k.split('.')[1] for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert 'student' in changed and 'teacher' not in changed
    for p in model.roles['teacher'].parameters():
        assert p.grad is None and torch.equal(optimiser.optimizer.state[p]['momentum_buffer'], momentum[id(p)])
    assert any('running_mean' in name for name, _ in model.roles['teacher'].named_buffers())


def test_in_learning_mode_both_move():
    model = distillation(distillers=[SWITCH])
    optimiser = plain_optimiser(model)
    data = forced(model, expert=False)
    before = deepcopy(model.state_dict())
    log = step(model, data, optimiser)
    assert log['teacher.expert'] == 0 and log['teacher.loss'] > 0
    moved = {k.split('.')[1] for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {'student', 'teacher'}


@pytest.mark.parametrize(
    ('distiller', 'message'),
    [
        (dict(SWITCH, teacher=['teacher', 'peer']), 'SwitOKD.teacher=.*takes one role'),
        (dict(SWITCH, student='teacher'), 'must differ from student'),
        (dict(KDCL, roles=['student']), 'needs at least two roles'),
        (dict(KDCL, ensemble='best'), "KDCL.ensemble='best'"),
    ],
)
def test_bad_configs_are_refused(distiller, message):
    with pytest.raises(ConfigError, match=message):
        distillation(distillers=[distiller])


def test_a_frozen_teacher_cannot_pause():
    with pytest.raises(ConfigError, match="SwitOKD: role 'teacher' is frozen"):
        distillation(distillers=[SWITCH], frozen=['teacher'])


def test_regions_of_interest_have_no_truth_at_a_position():
    message = r"KDCL.at: tap 'logits' gives no class maps .* from role 'student', which scores no position"
    with pytest.raises(ConfigError, match=message):
        small_detectors.distillation('faster', distillers=[KDCL])


@pytest.mark.parametrize('base', [KDCL, SWITCH])
def test_features_are_no_class_scores(base):
    kind = base['type']
    with pytest.raises(ConfigError, match=rf"{kind}.at: tap 'feats' .* \(1, 4, .*class maps are \(N, 5, h, w\); tap"):
        distillation(distillers=[dict(base, at='feats')])
    with pytest.raises(ConfigError, match=rf"{kind}.at: tap 'feats' .*class maps are \(N, 3, h, w\); tap `logits`"):
        small_detectors.distillation('fcos', distillers=[dict(base, at='feats')])
    # the classifier by its path is what `logits` stands for
    by_path, by_name = (
        train(distillation(distillers=[dict(base, at=at)]), steps=1)[0] for at in ('decode_head.conv_seg', 'logits')
    )
    assert by_path == by_name


def test_other_numbers_of_classes_are_refused():
    with pytest.raises(ConfigError, match='predicts 3 classes'):
        distillation(roles=dict(student=segmentor(4, classes=3), teacher=segmentor(8)), distillers=[KDCL])


def test_two_distillers_cannot_pause_one_role():
    message = r"distillers\[0\] and model.distillers\[2\]: both may pause role 'teacher'.*remove one"
    peers = {name: segmentor(4) for name in ('student', 'peer', 'teacher', 'other')}
    with pytest.raises(ConfigError, match=message):
        distillation(roles=peers, distillers=[SWITCH, ADM, dict(SWITCH, student='peer')])
    both = distillation(roles=peers, distillers=[SWITCH, dict(SWITCH, student='peer', teacher='other')])
    log = train(both, steps=1)[0]
    assert {'teacher.expert', 'other.expert'} <= set(log)
    # a weight of 0 never decides anything
    log = train(distillation(roles=peers, distillers=[dict(SWITCH, weight=0.0), dict(SWITCH, student='peer')]), steps=1)
    assert 'student.loss_switokd' not in log[0] and 'peer.loss_switokd' in log[0]


def test_the_teacher_is_announced_as_pausing():
    assert SwitOKD().may_pause == distillation(distillers=[SWITCH]).may_pause == {'teacher'}
