"""Keys of a role that would be ignored, or mean something else, are refused before anything is built."""

import pytest
from small_segmentors import distillation, segmentor

from mmadm.utils.errors import ConfigError


@pytest.mark.parametrize(
    ('role', 'message'),
    [
        (dict(cfg=segmentor(4), chekpoint='x.pth'), r"\.chekpoint: unknown; did you mean 'checkpoint'\?"),
        (
            dict(like='teacher', backbone={}),
            r"\.backbone: unknown; valid: 'cfg', 'override', 'like', 'checkpoint', 'train', 'inherit', 'task_loss'",
        ),
        (dict(cfg=dict(cfg=segmentor(4), checkpoint='x.pth')), r"\.cfg\.checkpoint: unknown; valid: 'cfg'"),
        (dict(cfg=segmentor(4), task_loss=0), r'\.task_loss=0: must be True or False'),
        (dict(cfg=segmentor(4), train='decode_head'), r"\.train='decode_head': must be a list: \['decode_head'\]"),
        (dict(cfg=segmentor(4), inherit='teacher'), r"\.inherit='teacher': must be a dict, such as dict\(teacher=\[.*"),
        (dict(cfg=segmentor(4), inherit=dict(t='neck')), r"\.inherit\.t='neck': must be a list: \['neck'\]"),
    ],
)
def test_a_key_beside_cfg_or_like_is_known_and_train_is_a_list(role, message):
    with pytest.raises(ConfigError, match=rf'^model\.roles\.student{message}$'):
        distillation(roles=dict(student=role, teacher=segmentor(8)))


@pytest.mark.parametrize('option', [dict(checkpoint='x.pth'), dict(train=['decode_head']), dict(cfg='mmseg::a.py')])
def test_a_model_dict_holds_no_key_of_a_role(option):
    (key,) = option
    message = r': stands in a model dict .* write dict\(cfg=<model dict>, checkpoint=\.\.\., train=\[\.\.\.\]\)'
    for where, role in (('', {**segmentor(4), **option}), (r'\.cfg', dict(cfg={**segmentor(4), **option}))):
        with pytest.raises(ConfigError, match=rf'^model\.roles\.student{where}\.{key}{message}'):
            distillation(roles=dict(student=role))
