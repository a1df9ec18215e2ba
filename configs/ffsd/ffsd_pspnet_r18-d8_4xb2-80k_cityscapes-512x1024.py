# FFSD, two students and a leader, PSPNet R18 on Cityscapes: 4 GPUs, 2 images each, 80k iterations.
_base_ = [
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/sgd_80k.py',
    '../_base_/runtime/default.py',
]
network = dict(cfg='mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py')
model = dict(
    type='mmadm.Distillation',
    roles=dict(first=network, second=network, leader=network),
    deploy='leader',
    distillers=[
        dict(
            type='mmadm.FFSD',
            students=['first', 'second'],
            leader='leader',
            at='pre_logits',
            shallow=['backbone.layer3', 'backbone.layer2', 'backbone.layer1'],
            warmup=2000,
        )
    ],
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    first=dict(optimizer={{_base_.optimizer}}),
    second=dict(optimizer={{_base_.optimizer}}),
    leader=dict(optimizer={{_base_.optimizer}}),
    fusion=dict(optimizer={{_base_.optimizer}}),
    self_distillation=dict(optimizer=dict(type='Adam', lr=0.001)),
)
default_hooks = dict(checkpoint=dict(interval=8000, save_best='leader/mIoU'))
