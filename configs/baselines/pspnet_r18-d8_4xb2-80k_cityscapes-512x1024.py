# Plain PSPNet R18, the baseline of ../adm: one role, which trains exactly like stock MMSegmentation.
_base_ = [
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/sgd_80k.py',
    '../_base_/runtime/default.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(student=dict(cfg='mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py')),
)
default_hooks = dict(checkpoint=dict(interval=8000, save_best='student/mIoU'))
