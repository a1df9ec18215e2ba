# AKD on masked generative distillation of the last stage, SegFormer B4 teaches B0: 8 GPUs, 1 image each, 160k
# iterations. Not on the logits: channel-wise distillation is reported to hurt this pair (methods.md, section 6).
# Another teacher file goes into model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/cityscapes_1024.py',
    '../_base_/distillers/akd_segmentation.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/runtime/default.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg='mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py'),
        teacher=dict(
            cfg='mmseg::segformer/segformer_mit-b4_8xb1-160k_cityscapes-1024x1024.py',
            checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/segformer/segformer_mit-b4_8x1_1024x1024_160k_cityscapes/segformer_mit-b4_8x1_1024x1024_160k_cityscapes_20211207_080709-07f6c333.pth',
        ),
    ),
    frozen=['teacher'],
    deploy='student',
    distillers=[{{_base_.mgd}}],
)
default_hooks = dict(checkpoint=dict(interval=16000, save_best='student/mIoU'))
