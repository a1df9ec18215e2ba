# AKD on masked generative distillation of the neck, DIST on the class scores and smooth L1 on the boxes of shared
# regions; Faster R-CNN R101 teaches R50: 8 GPUs, 2 images each, 24 epochs.
# Another teacher file goes into model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/distillers/akd_detection.py',
    '../_base_/schedules/sgd_2x.py',
    '../_base_/runtime/detection_epochs.py',
]
edge = dict(type='mmadm.Transfer', source='teacher', learner='student')
scores = dict(at='logits', loss=dict(type='DIST'), **edge)
boxes = dict(at='boxes', loss=dict(type='mmdet.SmoothL1Loss'), **edge)
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg='mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py'),
        teacher=dict(
            cfg='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py',
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r101_fpn_2x_coco/faster_rcnn_r101_fpn_2x_coco_bbox_mAP-0.398_20200504_210455-1d2dac9c.pth',
        ),
    ),
    frozen=['teacher'],
    deploy='student',
    distillers=[{{_base_.mgd_two_stage}}, scores, boxes],
)
optim_wrapper = dict(optimizer=dict(lr=0.02))  # two-stage detectors: twice the rate
