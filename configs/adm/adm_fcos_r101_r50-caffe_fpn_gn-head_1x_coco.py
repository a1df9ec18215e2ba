# ADM on top of mutual learning, FCOS R101 and R50 on COCO: 8 GPUs, 2 images each, 12 epochs.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/models/fcos_r101_r50.py',
    '../_base_/schedules/sgd_1x.py',
    '../_base_/runtime/detection_epochs.py',
]
# as in MMDetection: a constant warm-up, biases at twice the rate and without decay, clipped gradients
param_scheduler = [dict(type='ConstantLR', factor=1 / 3, by_epoch=False, begin=0, end=500), {{_base_.decay}}]
role = dict(
    optimizer={{_base_.optimizer}},
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=35, norm_type=2),
)
optim_wrapper = dict(_delete_=True, constructor='mmadm.RoleOptimWrapperConstructor', student=role, teacher=role)
