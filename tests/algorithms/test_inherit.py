"""A student that starts with its teacher's neck and head."""

from __future__ import annotations

import pytest
import torch
from small_detectors import build, detector
from small_detectors import distillation as detection
from small_segmentors import build as build_segmentor
from small_segmentors import distillation, segmentor

from mmadm.utils.errors import ConfigError


@pytest.fixture(scope='module')
def teacher_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp('inherit') / 'teacher.pth'
    torch.save(dict(state_dict=build(detector('retinanet', 4), seed=7).state_dict()), path)
    return str(path)


def roles(teacher_file, inherit, width=4, **student):
    return dict(
        student=dict(cfg=detector('retinanet', width), inherit=inherit, **student),
        teacher=dict(cfg=detector('retinanet', 4), checkpoint=teacher_file),
    )


def test_named_modules_start_as_the_teachers_and_the_rest_as_in_the_toolbox(teacher_file):
    model = detection(roles=roles(teacher_file, dict(teacher=['neck', 'bbox_head'])), frozen=['teacher'])
    alone = build(detector('retinanet', 4)).state_dict()
    teacher = torch.load(teacher_file)['state_dict']
    for key, value in model.roles['student'].state_dict().items():
        assert torch.equal(value, (alone if key.startswith('backbone.') else teacher)[key]), key
    assert not torch.equal(alone['bbox_head.retina_reg.weight'], teacher['bbox_head.retina_reg.weight'])
    # a copy: the student's own learns and leaves the teacher's alone
    mine, theirs = (model.roles[name].bbox_head.retina_reg.weight for name in ('student', 'teacher'))
    assert mine.requires_grad and not theirs.requires_grad and mine.data_ptr() != theirs.data_ptr()


def test_it_comes_after_the_students_own_checkpoint(teacher_file, tmp_path):
    own = build(detector('retinanet', 4), seed=9).state_dict()
    torch.save(dict(state_dict=own), tmp_path / 'own.pth')
    inherit = dict(teacher=['bbox_head'])
    model = detection(roles=roles(teacher_file, inherit, checkpoint=str(tmp_path / 'own.pth')))
    found, teacher = model.roles['student'].state_dict(), torch.load(teacher_file)['state_dict']
    assert torch.equal(found['neck.fpn_convs.0.conv.weight'], own['neck.fpn_convs.0.conv.weight'])
    assert torch.equal(found['bbox_head.retina_cls.weight'], teacher['bbox_head.retina_cls.weight'])


def test_a_part_of_a_neck_whose_inputs_differ(teacher_file):
    """A narrower backbone: the lateral convolutions differ, what follows them does not."""
    model = detection(roles=roles(teacher_file, dict(teacher=['neck.fpn_convs.2', 'bbox_head']), width=2))
    found, teacher = model.roles['student'].state_dict(), torch.load(teacher_file)['state_dict']
    assert torch.equal(found['neck.fpn_convs.2.conv.weight'], teacher['neck.fpn_convs.2.conv.weight'])


@pytest.mark.parametrize(
    ('inherit', 'width', 'message'),
    [
        (
            dict(teacher=['neck']),
            2,
            r"\.teacher: \d of \d+ tensors of 'neck' differ, such as lateral_convs\.0\.conv\.wei",
        ),
        (dict(teacher=['nek']), 4, r"\.teacher: a role has no module 'nek'; did you mean 'neck'\?"),
        (dict(teacher=['backbone.layer1']), 4, r"\.teacher: names 'backbone\.layer1'; a backbone starts from `check"),
        (dict(techer=['neck']), 4, r"\.techer: no other role; did you mean 'teacher'\?"),
        (dict(student=['neck']), 4, r"\.student: no other role; valid: 'teacher'"),
    ],
)
def test_what_cannot_be_inherited_is_refused(teacher_file, inherit, width, message):
    with pytest.raises(ConfigError, match=rf'^model\.roles\.student\.inherit{message}'):
        detection(roles=roles(teacher_file, inherit, width))


def test_random_weights_are_not_inherited(tmp_path):
    student = dict(cfg=segmentor(4, classes=3), inherit=dict(teacher=['decode_head']))
    both = dict(student=student, teacher=dict(cfg=segmentor(4, classes=3)))
    with pytest.raises(ConfigError, match=r'without model\.roles\.teacher\.checkpoint there is nothing trained'):
        distillation(roles=both)
    torch.save(dict(state_dict=build_segmentor(segmentor(4)).state_dict()), tmp_path / 'other_classes.pth')
    both['teacher']['checkpoint'] = str(tmp_path / 'other_classes.pth')
    with pytest.raises(ConfigError, match=r"'decode_head' is not in the checkpoint of that role"):
        distillation(roles=both)
    both['teacher']['inherit'] = dict(student=['decode_head'])
    with pytest.raises(ConfigError, match=r'model\.roles\.teacher\.inherit: a frozen role'):
        distillation(roles=both | dict(student=segmentor(4)), frozen=['teacher'])
