# AKD on channel-wise distillation of the logits, PSPNet R101 teaches R18: 4 GPUs, 2 images each, 80k iterations.
# Another teacher file goes into model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/cityscapes.py',
    '../_base_/distillers/akd_segmentation.py',
    '../_base_/schedules/sgd_80k.py',
    '../_base_/runtime/default.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg='mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'),
        teacher=dict(
            cfg='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py',
            checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r101-d8_512x1024_80k_cityscapes/pspnet_r101-d8_512x1024_80k_cityscapes_20200606_112211-e1e1100f.pth',
        ),
    ),
    frozen=['teacher'],
    deploy='student',
    distillers=[{{_base_.cwd}}],
)
default_hooks = dict(checkpoint=dict(interval=8000, save_best='student/mIoU'))
