# KD of the class scores, RetinaNet R101 teaches R50: 8 GPUs, 2 images each, 12 epochs. Divided by the positives, as BCKD
# does on GFL, whose weight 1 this is. Another teacher file goes into model.roles.teacher.checkpoint.
# Weights of features in this folder are for one level, and Transfer takes the mean over levels, hence their factor 5.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/models/retinanet_r101_r50.py',
    '../_base_/schedules/sgd_1x.py',
    '../_base_/runtime/detection_epochs.py',
]
model = dict(
    roles=dict(
        teacher=dict(
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_1x_coco/retinanet_r101_fpn_1x_coco_20200130-7a93545f.pth'
        )
    ),
    frozen=['teacher'],
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='logits',
            loss=dict(type='KLDivergence', tau=1.0),
            weight=1.0,
        )
    ],
)
