"""CrossKD: what cannot work is refused while the model is built, in one sentence."""

from __future__ import annotations

import pytest
import small_detectors
import small_segmentors
from dense_roles import crosskd, with_convs

from mmadm.distillers import CrossKD
from mmadm.utils.errors import ConfigError

FOUR_LEVELS = dict(strides=[8, 16, 32, 64], ratios=[0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3)
#: Options, and what the sentence says
REFUSED = {
    'learns': (dict(frozen=[]), r"source='teacher': this role learns, but .*write model\.frozen=\['teacher'\]"),
    'start': (dict(start=3), r"start=3: each branch of the head of role 'student' has only 2 .*at most that number"),
    'published start': (dict(start=None), r'start=3, as published for RetinaHead: each branch'),
    'centerness': (dict(centerness=1.0), r"centerness=1\.0: only that of ATSS .* role 'teacher' has RetinaHead; leave"),
    'connector': (dict(connector=dict(type='Conector')), r"CrossKD\.connector=\{'type': 'Conector'\}: .*registry"),
}
#: Family and options of the student's head, the teacher's family, and what the sentence says
MISFITS = {
    'width': (
        ('retinanet', dict(feat_channels=16)),
        'retinanet',
        r"head of 'teacher' takes 32 channels behind convolution 1, .* 'student' have 16; .*connector=dict\(type='Conn",
    ),
    'levels': (
        ('retinanet', dict(anchor_generator=dict(type='AnchorGenerator', **FOUR_LEVELS))),
        'retinanet',
        r"role 'student' has 4 levels with 9 priors at a position, 'teacher' 5 levels .*; both need the same: take a",
    ),
    'priors': (
        ('fcos', {}),
        'retinanet',
        r"role 'student' has 5 levels with 1 priors at a position, 'teacher' 5 levels with 9",
    ),
    'own layers': (
        ('rtmdet', {}),
        'rtmdet',
        r"the head of role 'student' has layers of its own; .*RetinaNet, FCOS, ATSS and GFL\. What fits others is BCKD",
    ),
    'no known head': (('vfnet', {}), 'vfnet', r"role 'student' is another kind of network or head"),
}


@pytest.mark.parametrize('name', MISFITS)
def test_heads_that_do_not_fit_are_refused(name):
    (family, head), other, message = MISFITS[name]
    student = with_convs(family, **head)
    if name == 'levels':
        student['neck']['num_outs'] = 4
    with pytest.raises(ConfigError, match=message):
        crosskd(roles=dict(student=student, teacher=with_convs(other)))


@pytest.mark.parametrize('name', REFUSED)
def test_what_cannot_work_is_refused_in_one_sentence(name):
    options, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        crosskd(**options)


def test_segmentors_two_stage_detectors_and_roles_without_a_task_are_refused():
    with pytest.raises(ConfigError, match=r"role 'teacher': a segmentor has no tap `boxes`"):
        small_segmentors.distillation(frozen=['teacher'], distillers=[dict(type='CrossKD')])
    with pytest.raises(ConfigError, match=r"CrossKD: role 'student' is another kind of network or head"):
        small_detectors.distillation('faster', frozen=['teacher'], distillers=[dict(type='CrossKD')])
    untaught = dict(student=dict(cfg=with_convs('retinanet'), task_loss=False), teacher=with_convs('retinanet'))
    for method in ('CrossKD', 'BCKD'):
        with pytest.raises(ConfigError, match=f"{method}: role 'student' assigns no .*roles.student.task_loss=True"):
            small_detectors.distillation(roles=untaught, frozen=['teacher'], distillers=[dict(type=method)])
    with pytest.raises(ConfigError, match=r"CrossKD\.source='student': must differ from learner"):
        CrossKD(source='student')
    with pytest.raises(ConfigError, match=r"CrossKD\.connector='Connector': must be a dict"):
        CrossKD(connector='Connector')
