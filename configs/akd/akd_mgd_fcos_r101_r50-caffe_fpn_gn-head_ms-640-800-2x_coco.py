# AKD on masked generative distillation of the neck, FCOS R101 teaches R50, two scales: 8 GPUs, 2 images each,
# 24 epochs. Another teacher file goes into model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/coco_ms-640-800.py',
    '../_base_/distillers/akd_detection.py',
    '../_base_/schedules/sgd_2x.py',
    '../_base_/runtime/detection_epochs.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg='mmdet::fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py'),
        teacher=dict(
            cfg='mmdet::fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py',
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/fcos/fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco/fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco-511424d6.pth',
        ),
    ),
    frozen=['teacher'],
    deploy='student',
    distillers=[{{_base_.mgd_one_stage}}],
)
# as in MMDetection: a constant warm-up, biases at twice the rate and without decay, clipped gradients
param_scheduler = [dict(type='ConstantLR', factor=1 / 3, by_epoch=False, begin=0, end=500), {{_base_.decay}}]
optim_wrapper = dict(
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0), clip_grad=dict(max_norm=35, norm_type=2)
)
