# CrossKD: features behind the third convolution of the student's head go on through the teacher's, ATSS R101 teaches R50:
# 8 GPUs, 2 images each, 12 epochs, weights as published for ATSS. Another teacher file goes into
# model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/models/atss_r101_r50.py',
    '../_base_/schedules/sgd_1x.py',
    '../_base_/runtime/detection_epochs.py',
]
crosskd = dict(type='mmadm.CrossKD', start=3, classification=1.0, boxes=1.0, centerness=1.0)
model = dict(
    roles=dict(
        teacher=dict(
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/atss/atss_r101_fpn_1x_coco/atss_r101_fpn_1x_20200825-dfcadd6f.pth'
        )
    ),
    frozen=['teacher'],
    distillers=[crosskd],
)
