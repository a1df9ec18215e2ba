"""Configs that cannot work are refused before training, with the key, what was found and what would be right."""

import pytest
import torch
from role_outputs import role_outputs
from small_segmentors import batch, distillation, segmentor, train

from mmadm.algorithms.build_distillers import check_reached
from mmadm.utils.errors import ConfigError

ADM = dict(type='ADM', at='backbone.layer4')
HINT = dict(type='HintMSE')
MUTUAL = dict(type='MutualLearning', roles=['student', 'teacher'])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(roles={}), 'at least one role.*found an empty dict'),
        (dict(roles=[segmentor(4)]), 'must be a dict.*found a list'),
        (
            dict(roles=dict(student='net.py')),
            r"roles\.student='net\.py': must be a dict, such as dict\(cfg='net\.py'\)",
        ),
        (dict(roles=dict(student=None)), r'roles\.student=None: must be a dict'),
        (dict(distillers=MUTUAL), r'model\.distillers=.*must be a list'),
        (dict(distillers=['ADM']), r"model\.distillers\[0\]='ADM': must be a dict"),
        (dict(distillers=[dict(source='teacher')]), r"distillers\[0\]: `type` is missing; valid: 'ADM', '"),
        (dict(distillers=[dict(type='mmadm.SwithOKD')]), r"distillers\[0\]\.type=.*did you mean 'SwitOKD'"),
        (dict(distillers=[dict(MUTUAL, wieght=2.0)]), r"distillers\[0\]\.wieght: unknown; did you mean 'weight'"),
        (dict(distillers=[dict(type='AvatarEnsemble')]), r"distillers\[0\]\.type='AvatarEnsemble': no distiller"),
        (
            dict(distillers=[dict(type='Transfer', source='teacher', learner='student', loss='KLDivergence')]),
            r"distillers\[0\]: Transfer\.loss='KLDivergence': must be a dict",
        ),
        (
            dict(
                distillers=[
                    dict(type='Transfer', source='teacher', learner='student', loss=dict(type='HintMSE'), avatars=4)
                ]
            ),
            r'distillers\[0\]: avatars=4: must be a dict, such as dict\(num=4',
        ),
        (dict(roles=dict(student=segmentor(4), type=segmentor(4))), 'key of optim_wrapper'),
        (dict(deploy='studnet'), "did you mean 'student'"),
        (dict(frozen=['techer']), "model.frozen='techer' is not a role; did you mean 'teacher'"),
        (dict(frozen='teacher'), r"model\.frozen='teacher': must be a list: \['teacher'\]"),
        (dict(frozen=['student', 'teacher']), 'nothing would be trained'),
        (dict(distillers=[dict(MUTUAL, roles=['student', 'techer'])]), r"distillers\[0\]: no role 'techer'.*'teacher'"),
        (dict(distillers=[dict(ADM, at='backbone.layer5')]), r"no tap 'backbone.layer5'; did you mean 'backbone.layer"),
        (dict(distillers=[dict(ADM, at='decode_head')]), 'not called as a module'),
        (dict(distillers=[dict(ADM, at=dict(student='feats'))]), "no tap for role 'teacher'"),
        (dict(distillers=[dict(ADM, region='best')]), r"distillers\[0\].*found 'best'"),
        (dict(distillers=[dict(ADM, tau=0)]), 'tau must be above 0'),
        (dict(distillers=[dict(ADM, teacher='student')]), 'both student and teacher'),
        (dict(distillers=[dict(MUTUAL, roles=['student'])]), 'at least two roles'),
        (dict(distillers=[dict(ADM, wrong=1)]), r'distillers\[0\].*wrong'),
        (dict(distillers=[dict(ADM, schedule=dict(warmup='cubic'))]), r'schedule\.warmup'),
        (dict(distillers=[dict(type='Nothing')]), r'distillers\[0\].*Nothing'),
        (dict(distillers=[dict(ADM, at=dict(student='feats', teacher='logits'))]), '4 levels'),
        (dict(roles=dict(student=dict(cfg='mmseg::pspnet/pspnet_r17.py'))), 'has no config'),
        (dict(roles=dict(student=dict(cfg='nosuchpkg::a.py'))), "'nosuchpkg' is not installed"),
        (dict(roles=dict(student=dict(checkpoint='x.pth'))), r'roles\.student: a role is a model dict'),
        (dict(roles=dict(student=dict(type='ResNet', depth=18))), 'ResNet is no mmengine.*no adapter fits it'),
        (
            dict(roles=dict(student=dict(type='EncodeDecode'))),
            r'roles\.student: EncodeDecode is not in .*default_scope',
        ),
    ],
)
def test_a_config_that_cannot_work_is_refused_before_training(change, message):
    with pytest.raises(ConfigError, match=message):
        distillation(**change)


@pytest.mark.parametrize('distiller', [ADM, dict(type='Transfer', source='teacher', learner='student', loss=HINT)])
@pytest.mark.parametrize(('tap', 'learns'), [('layer2', False), ('layer3', True)])
def test_a_tap_before_which_nothing_learns_is_refused(distiller, tap, learns):
    """Else a connector alone would move, and the loss would fall as if the student learnt."""
    student = segmentor(4)
    student['backbone']['frozen_stages'] = 2
    model = distillation(
        roles=dict(student=student, teacher=segmentor(8)), distillers=[dict(distiller, at=f'backbone.{tap}')]
    )
    if learns:
        train(model, 1)
        return
    with pytest.raises(
        ConfigError, match=rf"would teach 'student' at tap 'backbone\.{tap}', but nothing learns.*frozen_"
    ):
        train(model, 1)
    with torch.no_grad():  # only looked at
        model(**model.data_preprocessor(batch(), True), mode='loss')


def test_class_counts_that_differ_are_refused_for_logits_only():
    roles = dict(student=segmentor(4), teacher=segmentor(8, classes=7))
    with pytest.raises(ConfigError, match="'student' predicts 5 classes and 'teacher' 7"):
        distillation(roles=roles, distillers=[MUTUAL])
    distillation(roles=roles, distillers=[ADM])


def test_only_a_tap_with_something_in_it_can_miss_its_learner():
    model = distillation(distillers=[dict(type='Transfer', source='teacher', learner='student', loss=HINT)])

    def look(rows):
        check_reached(model.distillers, role_outputs({'student': dict(logits=[torch.zeros(rows, 5)])}))

    look(0)  # a detector that samples no region in a batch
    with pytest.raises(ConfigError, match="tap 'logits', but nothing learns up to there"):
        look(2)
