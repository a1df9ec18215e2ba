"""Frozen teachers: offline by one key, several of them, lower precision and compilation."""

import pytest
import torch
from role_outputs import run_roles
from small_segmentors import batch, distillation, segmentor, train

from mmadm.algorithms.frozen import compile_around
from mmadm.utils.errors import ConfigError

ONLINE = [dict(type='MutualLearning', roles=['student', 'teacher']), dict(type='ADM', at='feats', divergence=0.5)]
KD = dict(type='Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence', tau=1.0))
DEEP = dict(KD, at='backbone.layer4', loss=dict(type='PearsonDistance'))


def taps_of_teacher(model):
    """What the frozen teacher puts out in a training step."""
    data = model.data_preprocessor(batch(), True)
    outputs = run_roles(model, data)
    return {str(tap): read.levels for tap, read in outputs['teacher'].taps.items()}


def test_one_key_makes_an_online_config_offline_with_the_same_losses():
    online = train(distillation(distillers=ONLINE), steps=1)[0]
    offline = train(distillation(distillers=ONLINE, frozen=['teacher']), steps=1)[0]
    of_student = {key for key in online if key.startswith('student.')}
    assert {key for key in offline if key.startswith('student.')} == of_student
    assert not any(key.startswith('teacher.') for key in offline)
    assert offline['student.decode.loss_ce'] == online['student.decode.loss_ce']  # before the first step both see one


def test_several_teachers_frozen_and_trainable_have_their_own_weights():
    roles = dict(student=segmentor(4), old=segmentor(8), peer=segmentor(4))
    kd = dict(KD, source='old')
    both = [dict(kd, weight=2.0), dict(type='MutualLearning', roles=['student', 'peer'], weight=0.5)]
    log = train(distillation(roles=roles, frozen=['old'], distillers=both), steps=1)[0]
    single = train(distillation(roles=roles, frozen=['old'], distillers=[kd]), steps=1)[0]
    assert log['student.loss_transfer'] == pytest.approx(2 * single['student.loss_transfer'], rel=1e-6)
    assert {'student.loss_mutual', 'peer.loss_mutual'} <= set(log)


@pytest.mark.parametrize('name', ['bfloat16', 'float32'])
def test_lower_precision_stays_near_the_float32_taps(name):
    options = dict(frozen=['teacher'], distillers=[KD, DEEP])
    exact = taps_of_teacher(distillation(**options))
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=name == 'float32'):  # float32 inside an AMP run
        found = taps_of_teacher(distillation(teacher_dtype=name, **options))
    for tap, (reference,) in exact.items():
        assert found[tap][0].dtype == getattr(torch, name)
        error = (found[tap][0].float() - reference).norm() / reference.norm()
        assert error == 0 if name == 'float32' else 0 < error < 0.02, f'{tap}: {error}'


def test_compiled_taps_are_those_of_the_eager_teacher():
    cfg = segmentor(4)
    cfg['backbone'].update(num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    cfg['decode_head'].update(in_channels=4, in_index=0, num_convs=0, channels=4)
    options = dict(roles=dict(student=cfg, teacher=cfg), frozen=['teacher'], distillers=[KD])
    eager, compiled = (distillation(compile=flag, **options) for flag in (False, True))
    assert compiled.roles['teacher'].backbone._compiled_call_impl is not None
    assert compiled.roles['student'].backbone._compiled_call_impl is None
    assert set(eager.state_dict()) == set(compiled.state_dict())
    reference, found = taps_of_teacher(eager)['logits'][0], taps_of_teacher(compiled)['logits'][0]
    torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-5)


def test_what_is_tapped_is_not_compiled():
    model = distillation().roles['teacher']
    compile_around(model, ['backbone.layer3', 'decode_head.conv_seg'])
    compiled = {name for name, part in model.named_modules() if part._compiled_call_impl is not None}
    assert {'backbone.layer1', 'backbone.layer4', 'backbone.layer3.0', 'decode_head.convs'} <= compiled
    assert not compiled & {'', 'backbone', 'backbone.layer3', 'decode_head', 'decode_head.conv_seg'}


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match=r"model\.teacher_dtype='half': must be one of 'float32', 'bfloat16'"):
        distillation(teacher_dtype='half', frozen=['teacher'])
