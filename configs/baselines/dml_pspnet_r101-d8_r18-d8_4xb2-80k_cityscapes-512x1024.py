# Deep Mutual Learning, PSPNet R101 and R18 on Cityscapes: 4 GPUs, 2 images each, 80k iterations.
_base_ = [
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/sgd_80k.py',
    '../_base_/runtime/default.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg='mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'),
        teacher=dict(cfg='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py', checkpoint=None),
    ),
    frozen=[],  # ['teacher'] with a checkpoint makes the same run offline
    deploy='student',
    distillers=[dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits')],
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    student=dict(optimizer={{_base_.optimizer}}),
    teacher=dict(optimizer={{_base_.optimizer}}, clip_grad=dict(max_norm=10)),
)
default_hooks = dict(checkpoint=dict(interval=8000, save_best='student/mIoU'))
