# Knowledge review (ReviewKD) of the five levels of the neck, Faster R-CNN R101 teaches R50: 8 GPUs, 2 images each, 12
# epochs. Weight and channels of the fusion as published. Another teacher file goes into model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/models/faster_rcnn_r101_r50.py',
    '../_base_/schedules/sgd_1x.py',
    '../_base_/runtime/detection_epochs.py',
]
model = dict(
    roles=dict(
        teacher=dict(
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r101_fpn_1x_coco/faster_rcnn_r101_fpn_1x_coco_20200130-f513f705.pth'
        )
    ),
    frozen=['teacher'],
    distillers=[dict(type='mmadm.ReviewKD', source='teacher', learner='student', at='feats')],
)
optim_wrapper = dict(optimizer=dict(lr=0.02))  # two-stage detectors: twice the rate
