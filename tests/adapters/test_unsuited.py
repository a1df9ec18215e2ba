"""Stock models that are no single network on a batch of images are refused in one sentence."""

from __future__ import annotations

import pytest
from small_detectors import detector, distillation

from mmadm.utils.errors import ConfigError

CWD = dict(
    type='Transfer', source='teacher', learner='student', at='feats', loss=dict(type='ChannelWiseDivergence')
)  # fmt: skip


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ('ld/ld_r18-gflv1-r101_fpn_1x_coco.py', 'KnowledgeDistillationSingleStageDetector distils by itself.*mmadm.LD'),
        ('lad/lad_r50-paa-r101_fpn_2xb8_coco_1x.py', 'LAD distils by itself'),
        ('sort/sort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py', 'DeepSORT follows objects'),
        ('mask2former_vis/mask2former_r50_8xb2-8e_youtubevis2019.py', 'Mask2FormerVideo follows objects'),
        (
            'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.01-coco.py',
            'SoftTeacher is two detectors.*its part `detector`',
        ),
    ],
)
def test_it_is_refused_before_it_is_built(config, message):
    role = dict(cfg=f'mmdet::{config}')
    with pytest.raises(ConfigError, match=rf'^model\.roles\.student: {message}') as refused:
        distillation(roles=dict(student=role, teacher=role), distillers=[CWD])
    assert '\n' not in str(refused.value)


def test_an_operator_that_only_gpus_have_is_named():
    """The dry run is on the CPU, also where training is not."""
    student = detector('faster')
    student['neck'].update(
        type='FPN_CARAFE', num_outs=5, upsample_cfg=dict(
            type='carafe', up_kernel=5, up_group=1, encoder_kernel=3, encoder_dilation=1, compressed_channels=8
        )
    )  # fmt: skip
    message = r'cannot be read at feats: mmcv has one of its operators for GPUs alone \(RuntimeError: carafe'
    with pytest.raises(ConfigError, match=message) as refused:
        distillation(roles=dict(student=student, teacher=student), distillers=[CWD])
    assert '\n' not in str(refused.value)
