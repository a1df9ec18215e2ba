# Binary classification distillation (BCKD) of class scores and boxes, GFL R101 teaches R50: 8 GPUs, 2 images each, 12
# epochs, weights as published. Another teacher file goes into model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/models/gfl_r101_r50.py',
    '../_base_/schedules/sgd_1x.py',
    '../_base_/runtime/detection_epochs.py',
]
model = dict(
    roles=dict(
        teacher=dict(
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/gfl/gfl_r101_fpn_mstrain_2x_coco/gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth'
        )
    ),
    frozen=['teacher'],
    distillers=[dict(type='mmadm.BCKD', source='teacher', learner='student', classification=1.0, boxes=4.0)],
)
