"""Class scores with sigmoids: of detectors by the number of positives, of segmentors by the mean."""

from __future__ import annotations

from dataclasses import replace

import pytest
import small_segmentors
import torch
from role_outputs import as_facts, logged, role_outputs, run_roles
from small_detectors import batch, detector, distillation

from mmadm.distillers import FFSD, KDCL, SOKD, MutualLearning, SwitOKD, Transfer
from mmadm.functional import binary_kl_divergence, focal_binary_divergence
from mmadm.losses import KLDivergence
from mmadm.losses.kl import ClassDivergence
from mmadm.structures import Kind, PairContext, Step, Tap, TapOutput
from mmadm.utils.dense import DenseTargets
from mmadm.utils.errors import ConfigError

ROLES = ('student', 'teacher')
KD = dict(type='Transfer', source='teacher', learner='student')


def against_a_good_teacher(**options):
    """KD of a RetinaNet whose teacher gives 0.9 to every positive's class, and the student's own losses."""
    model = distillation(
        'retinanet', frozen=['teacher'], distillers=[{**KD, 'loss': dict(type='KLDivergence', **options)}]
    )
    outputs = run_roles(model, model.data_preprocessor(batch(), True))
    student = outputs['student']
    tap = Tap.parse('teacher', 'logits')
    levels = []
    for level in student.targets().labels:
        one_hot = torch.nn.functional.one_hot(level.clamp(max=3), 4)[..., :3].movedim(-1, 1)
        levels.append(torch.where(one_hot.bool(), 2.2, -4.6))
    taught = replace(
        outputs['teacher'], taps={tap: TapOutput(Kind.SIGMOID_SCORES, levels, outputs['teacher'].taps[tap].strides)}
    )
    (loss,) = model.distillers['transfer'](dict(outputs, teacher=taught), Step()).losses.values()
    return 5 * loss.item(), sum(student.losses['loss_cls']).item()  # the factor 5 of the configs: one for each level


def test_kd_of_a_retinanet_is_of_the_order_of_its_task_loss():
    kd, task = against_a_good_teacher()
    assert 0.5 * task < kd / 5 < 5 * task
    assert against_a_good_teacher(normaliser='mean')[0] / 5 < 0.05 * task


def test_a_detectors_sum_over_priors_is_divided_by_its_positives():
    generator = torch.Generator().manual_seed(0)
    maps = {role: [torch.randn(2, 3, s, s, generator=generator) for s in (4, 2)] for role in ROLES}
    found = role_outputs({role: dict(logits=levels) for role, levels in maps.items()}, sigmoid=True)
    found['student'] = replace(found['student'], targets=lambda: DenseTargets(torch.tensor(7.0)))
    distiller = MutualLearning(ROLES, normaliser='positives')
    distiller.bind(as_facts(found), ROLES)
    losses = logged(distiller(found, Step()))
    rows = [torch.cat([level.flatten(2).movedim(1, 2).flatten(0, 1) for level in maps[role]]) for role in ROLES]
    # the sum over both levels
    torch.testing.assert_close(losses['student.loss_mutual'], focal_binary_divergence(*rows, normalizer=7.0))
    # the teacher tells no positives
    terms = [binary_kl_divergence(a, b) for a, b in zip(maps['teacher'], maps['student'], strict=True)]
    torch.testing.assert_close(losses['teacher.loss_mutual'], sum(terms) / 2)


def test_what_is_no_image_counts_for_nothing():
    student, teacher = torch.randn(2, 1, 3, 2, 2)
    mask = torch.tensor([[[True, True], [False, False]]])
    context = PairContext(Kind.SIGMOID_SCORES, mask=mask, positives=lambda: torch.tensor(2.0))
    cut = replace(context, mask=None)
    found = KLDivergence()(student, teacher, context)
    torch.testing.assert_close(found, KLDivergence()(student[:, :, :1], teacher[:, :, :1], cut))


def test_the_temperature_is_1_unless_one_is_given():
    student, teacher = torch.randn(2, 1, 3, 2, 2)
    context = PairContext(Kind.SIGMOID_SCORES, positives=lambda: torch.tensor(2.0))
    torch.testing.assert_close(
        KLDivergence()(student, teacher, context), focal_binary_divergence(student, teacher, normalizer=2.0)
    )
    soft = 9 * focal_binary_divergence(student / 3, teacher / 3, normalizer=2.0)
    torch.testing.assert_close(KLDivergence(tau=3.0)(student, teacher, context), soft)
    no_detector = replace(context, positives=lambda: None)
    torch.testing.assert_close(
        KLDivergence(tau=3.0)(student, teacher, no_detector), binary_kl_divergence(student, teacher, 3.0)
    )


def test_a_mean_asks_no_rank_for_positives():
    student, teacher = torch.randn(2, 1, 3, 2, 2)
    context = PairContext(Kind.SIGMOID_SCORES, positives=lambda: pytest.fail('were counted'))
    found = KLDivergence(tau=1.0, normaliser='mean')(student, teacher, context)
    torch.testing.assert_close(found, binary_kl_divergence(student, teacher, 1.0))


@pytest.mark.parametrize(
    ('distiller', 'tau', 'default'),
    [
        (lambda **o: KDCL(ROLES, **o), 2.0, 'mean'),
        (lambda **o: SOKD(**o), 4.0, 'positives'),
        (lambda **o: FFSD(ROLES, **o), 2.0, 'mean'),
        (lambda **o: MutualLearning(ROLES, **o), 1.0, 'mean'),
        (lambda **o: SwitOKD(**o), 1.0, 'mean'),
        (lambda **o: Transfer('teacher', 'student', dict(type='KLDivergence', **o)).loss, 4.0, 'positives'),
    ],
    ids=['kdcl', 'sokd', 'ffsd', 'dml', 'switokd', 'kd'],
)
def test_every_method_of_logits_has_the_choice(distiller, tau, default):
    """Those with a finished teacher divide by positives; where all learn, that would throw all back."""
    student, teacher = torch.randn(2, 1, 3, 2, 2)
    context = PairContext(Kind.SIGMOID_SCORES, positives=lambda: torch.tensor(2.0))
    values = {
        'mean': binary_kl_divergence(student, teacher),
        'positives': focal_binary_divergence(student, teacher, normalizer=2.0),
    }
    for normaliser, value in values.items():
        torch.testing.assert_close(distiller(normaliser=normaliser).divergence(student, teacher, context), value)
    torch.testing.assert_close(distiller().divergence(student, teacher, context), values[default])
    soft = distiller().divergence(student, teacher, PairContext(Kind.SOFTMAX_SCORES))
    torch.testing.assert_close(soft, KLDivergence(tau=tau)(student, teacher, PairContext(Kind.SOFTMAX_SCORES)))
    with pytest.raises(ConfigError, match=r"\w+.normaliser='sum': must be one of \('positives', 'mean'\)"):
        distiller(normaliser='sum')


def test_a_bad_temperature_names_the_method():
    with pytest.raises(ConfigError, match=r'KDCL.tau=0'):
        ClassDivergence('KDCL', 0)


def test_a_segmentor_with_sigmoids_keeps_the_mean():
    roles = {name: small_segmentors.segmentor(width) for name, width in zip(ROLES, (4, 8), strict=True)}
    for cfg in roles.values():
        cfg['decode_head']['loss_decode'] = dict(type='CrossEntropyLoss', use_sigmoid=True)
    losses = []
    for normaliser in ('positives', 'mean'):
        dml = dict(type='MutualLearning', roles=list(ROLES), normaliser=normaliser)
        model = small_segmentors.distillation(roles=roles, distillers=[dml])
        losses.append(
            model(**model.data_preprocessor(small_segmentors.batch(), True), mode='loss')['student.loss_mutual']
        )
    assert losses[0] == losses[1] > 0


def test_a_detector_is_what_makes_the_difference():
    losses = []
    for normaliser in ('positives', 'mean'):
        dml = dict(type='MutualLearning', roles=list(ROLES), normaliser=normaliser)
        roles = {name: detector('fcos', width) for name, width in zip(ROLES, (4, 8), strict=True)}
        model = distillation(roles=roles, distillers=[dml])
        losses.append(model(**model.data_preprocessor(batch(), True), mode='loss')['student.loss_mutual'])
    assert losses[0] != losses[1]
