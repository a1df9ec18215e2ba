# AKD on channel-wise distillation of the neck, RetinaNet R101 teaches R50: 8 GPUs, 2 images each, 24 epochs.
# Another teacher file goes into model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/distillers/akd_detection.py',
    '../_base_/schedules/sgd_2x.py',
    '../_base_/runtime/detection_epochs.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg='mmdet::retinanet/retinanet_r50_fpn_2x_coco.py'),
        teacher=dict(
            cfg='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py',
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_2x_coco/retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth',
        ),
    ),
    frozen=['teacher'],
    deploy='student',
    distillers=[{{_base_.cwd}}],
)
