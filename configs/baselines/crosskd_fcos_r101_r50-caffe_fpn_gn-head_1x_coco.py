# CrossKD: features behind the second convolution of the student's head go on through the teacher's, FCOS R101 teaches
# R50: 8 GPUs, 2 images each, 12 epochs, weights as published for FCOS. Another teacher file goes into
# model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/models/fcos_r101_r50.py',
    '../_base_/schedules/sgd_1x.py',
    '../_base_/runtime/detection_epochs.py',
]
# as in MMDetection: a constant warm-up, biases at twice the rate and without decay, clipped gradients
param_scheduler = [dict(type='ConstantLR', factor=1 / 3, by_epoch=False, begin=0, end=500), {{_base_.decay}}]
optim_wrapper = dict(
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0), clip_grad=dict(max_norm=35, norm_type=2)
)
model = dict(
    roles=dict(
        teacher=dict(
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/fcos/fcos_r101_caffe_fpn_gn-head_1x_coco/fcos_r101_caffe_fpn_gn-head_1x_coco-0e37b982.pth'
        )
    ),
    frozen=['teacher'],
    distillers=[dict(type='mmadm.CrossKD', start=2, classification=0.4, boxes=0.75)],
)
