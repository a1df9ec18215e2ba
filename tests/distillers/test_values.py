"""What each distiller computes from given taps, against the pure functions."""

import pytest
import torch
import torch.nn.functional as F
from role_outputs import as_facts, levels, logged, role_outputs
from small_segmentors import distillation

from mmadm.distillers import ADM, MutualLearning, Transfer
from mmadm.functional import (
    channel_wise_divergence,
    consensus_loss,
    decoupled_kl,
    divergence_loss,
    generation_distance,
    kl_divergence,
    similarity_map,
)
from mmadm.structures import GroundTruth, Step
from mmadm.utils.errors import ConfigError

ROLES = ('student', 'teacher', 'peer')


def outputs(sigmoid=False, **taps):
    """RoleOutputs of three roles with random taps; labels whose top half is ignored."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    labels[:, :4] = 255
    made = {
        role: {
            name: [torch.randn(*shape, generator=generator, requires_grad=True) for shape in shapes]
            for name, shapes in taps.items()
        }
        for role in ROLES
    }
    return role_outputs(made, GroundTruth(labels), sigmoid=sigmoid)


def bound(distiller, found, trainable=ROLES):
    assert not distiller.bind(as_facts(found), trainable)  # equal channels
    return distiller


def test_mutual_learning_is_the_mean_over_peers_on_labelled_pixels():
    found = outputs(logits=[(2, 5, 8, 8)])
    z = {role: levels(found, role, 'logits')[0] for role in found}
    distiller = bound(MutualLearning(ROLES, tau=2.0, weight=3.0), found)
    losses = logged(distiller(found, Step()))
    mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    mask[:, 4:] = True
    expected = 1.5 * sum(kl_divergence(z['student'], z[q], 2.0, mask) for q in ('teacher', 'peer'))
    torch.testing.assert_close(losses['student.loss_mutual'], expected)
    assert set(losses) == {f'{role}.loss_mutual' for role in ROLES}


def test_a_frozen_peer_only_teaches():
    found = outputs(logits=[(2, 5, 8, 8)])
    losses = logged(bound(MutualLearning(ROLES), found, trainable=('student', 'teacher'))(found, Step()))
    assert set(losses) == {'student.loss_mutual', 'teacher.loss_mutual'}
    losses['student.loss_mutual'].backward()
    assert levels(found, 'peer', 'logits')[0].grad is None


def test_transfer_compares_at_the_sources_resolution():
    found, other = outputs(logits=[(2, 5, 4, 4)]), outputs(logits=[(2, 5, 8, 8)])
    found['teacher'] = other['teacher']
    big = levels(found, 'teacher', 'logits')[0]
    distiller = bound(Transfer('teacher', 'student', dict(type='KLDivergence', tau=4.0), weight=0.5), found)
    small = levels(found, 'student', 'logits')[0]
    resized = F.interpolate(small, size=(8, 8), mode='bilinear', align_corners=False)
    mask = found['student'].truth.labels != 255
    expected = 0.5 * kl_divergence(resized, big, 4.0, mask)
    torch.testing.assert_close(logged(distiller(found, Step()))['student.loss_transfer'], expected)


def test_adm_averages_over_levels_taps_and_partners():
    found = outputs(a=[(2, 6, 4, 4), (2, 6, 2, 2)], b=[(2, 3, 4, 4)])
    distiller = bound(
        ADM(['student', 'peer'], 'teacher', at=['a', 'b'], consensus=2.0, divergence=0.5, tau=0.3, region='topk',
            share=0.25), found
    )  # fmt: skip
    losses = logged(distiller(found, Step()))
    options = dict(tau=0.3, region='topk', share=0.25)

    def pairs(student):
        for tap in ('a', 'b'):
            yield from zip(levels(found, student, tap), levels(found, 'teacher', tap), strict=True)

    for student in ('student', 'peer'):
        expected = torch.stack([consensus_loss(s, t, **options) for s, t in pairs(student)]).mean()
        torch.testing.assert_close(losses[f'{student}.loss_consensus'], 2.0 * expected)
    every = [divergence_loss(s, t, **options) for student in ('student', 'peer') for s, t in pairs(student)]
    torch.testing.assert_close(losses['teacher.loss_divergence'], 0.5 * torch.stack(every).mean())
    monitor = torch.stack([similarity_map(s, t).mean() for s, t in pairs('student')]).mean()
    torch.testing.assert_close(losses['student.similarity'], monitor)


@pytest.mark.parametrize(
    ('trainable', 'keys'),
    [
        (ROLES, {'student.loss_consensus', 'teacher.loss_divergence', 'student.similarity'}),
        (('student',), {'student.loss_consensus', 'student.similarity'}),
        (('teacher',), {'teacher.loss_divergence', 'student.similarity'}),
    ],
)
def test_adm_computes_only_what_somebody_learns_from(trainable, keys):
    found = outputs(feats=[(2, 6, 4, 4)])
    assert set(logged(bound(ADM(), found, trainable)(found, Step()))) == keys


def test_adm_gradients_are_those_of_the_pure_losses():
    found = outputs(feats=[(2, 6, 4, 4)])
    student, teacher = levels(found, 'student', 'feats')[0], levels(found, 'teacher', 'feats')[0]
    losses = logged(bound(ADM(consensus=1.0, divergence=1.0, tau=0.2), found)(found, Step()))
    (losses['student.loss_consensus'] + losses['teacher.loss_divergence']).backward()
    (expected_s,) = torch.autograd.grad(consensus_loss(student, teacher.detach(), tau=0.2), student)
    (expected_t,) = torch.autograd.grad(divergence_loss(student.detach(), teacher, tau=0.2), teacher)
    torch.testing.assert_close(student.grad, expected_s)
    torch.testing.assert_close(teacher.grad, expected_t)


# ---- transfers with features, avatars and connectors of their own ---------------------------------------------------


def test_transfer_passes_labels_and_where_they_are():
    found = outputs(logits=[(2, 5, 4, 4)])
    distiller = bound(Transfer('teacher', 'student', dict(type='DecoupledKL', tau=2.0)), found)
    small = found['student'].truth.labels[:, ::2, ::2]
    z = [levels(found, role, 'logits')[0] for role in ('student', 'teacher')]
    expected = decoupled_kl(*z, small, 2.0, 1.0, 8.0, small != 255)
    torch.testing.assert_close(logged(distiller(found, Step()))['student.loss_transfer'], expected)
    cwd = bound(Transfer('teacher', 'student', dict(type='ChannelWiseDivergence')), found)
    torch.testing.assert_close(
        logged(cwd(found, Step()))['student.loss_transfer'], channel_wise_divergence(*z, 1.0, small != 255)
    )


def test_a_loss_that_cannot_work_at_the_tap_is_refused_before_training():
    found = outputs(sigmoid=True, logits=[(2, 5, 4, 4)])
    with pytest.raises(ConfigError, match=r'DecoupledKL: makes no sense for class scores \(a sigmoid each\)'):
        Transfer('teacher', 'student', dict(type='DecoupledKL')).bind(as_facts(found), ROLES)


def test_mgd_builds_a_block_for_each_level_even_where_channels_match():
    found = outputs(feats=[(2, 6, 8, 8), (2, 6, 4, 4)])
    distiller = Transfer('teacher', 'student', dict(type='MaskedGeneration', mask_ratio=0.0), at='feats')
    connectors = distiller.bind(as_facts(found), ROLES)
    assert {key: learner for key, (learner, _) in connectors.items()} == {'feats_0': 'student', 'feats_1': 'student'}
    blocks = {key: module for key, (_, module) in connectors.items()}
    loss = logged(distiller(found, Step(connectors=blocks)))['student.loss_transfer']
    pairs = [(blocks[f'feats_{i}'](levels(found, 'student', 'feats')[i]), levels(found, 'teacher', 'feats')[i])
             for i in range(2)]  # fmt: skip
    torch.testing.assert_close(loss, torch.stack([generation_distance(a, b) for a, b in pairs]).mean())


def test_avatars_replace_the_source_and_leave_it_without_gradient():
    found = outputs(feats=[(2, 6, 8, 8)])
    options = dict(loss=dict(type='PearsonDistance'), at='feats')
    plain = logged(bound(Transfer('teacher', 'student', **options), found)(found, Step()))['student.loss_transfer']
    untouched = dict(type='AvatarEnsemble', num=2, perturbation=dict(type='Dropout', p=0.0))
    same = logged(bound(Transfer('teacher', 'student', avatars=untouched, **options), found)(found, Step()))
    torch.testing.assert_close(same['student.loss_transfer'], plain)
    assert same['student.avatar_weight_min'].item() == pytest.approx(1.0)
    noisy = logged(bound(Transfer('teacher', 'student', avatars=dict(num=2), **options), found)(found, Step()))
    assert noisy['student.loss_transfer'].item() != pytest.approx(plain.item())
    noisy['student.loss_transfer'].backward()
    assert levels(found, 'teacher', 'feats')[0].grad is None
    assert levels(found, 'student', 'feats')[0].grad.abs().max() > 0


def test_adm_with_avatars_of_a_trainable_teacher_keeps_its_routing():
    found = outputs(feats=[(2, 6, 8, 8)])
    avatars = dict(num=3, perturbation=dict(type='Dropout', p=0.0))
    losses = logged(bound(ADM(avatars=avatars), found)(found, Step()))
    plain = logged(bound(ADM(), found)(found, Step()))
    for key in ('student.loss_consensus', 'teacher.loss_divergence'):
        torch.testing.assert_close(losses[key], plain[key])
    losses['student.loss_consensus'].backward()
    assert levels(found, 'teacher', 'feats')[0].grad is None
    losses['teacher.loss_divergence'].backward()
    assert levels(found, 'teacher', 'feats')[0].grad.abs().max() > 0


def test_a_tap_beside_two_of_the_source_has_a_connector_for_each():
    pairs = [dict(student='backbone.layer4', teacher=tap) for tap in ('backbone.layer2', 'backbone.layer4')]
    hint = dict(type='Transfer', source='teacher', learner='student', at=pairs, loss=dict(type='HintMSE'))
    connectors = distillation(distillers=[hint]).connectors['transfer']
    # from the student's 32 channels to 16 and to 64
    assert {key: tuple(weight.shape[:2]) for key, weight in connectors.named_parameters()} == {
        'backbone_layer4.weight': (16, 32),
        'backbone_layer4_backbone_layer4.weight': (64, 32),
    }
