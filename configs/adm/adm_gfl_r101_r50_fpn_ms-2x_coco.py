# ADM on top of mutual learning, GFL R101 and R50 on COCO, multi-scale: 8 GPUs, 2 images each, 24 epochs.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/models/gfl_r101_r50.py',
    '../_base_/schedules/sgd_2x.py',
    '../_base_/runtime/detection_epochs.py',
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=[(1333, 480), (1333, 800)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    student=dict(optimizer={{_base_.optimizer}}),
    teacher=dict(optimizer={{_base_.optimizer}}),
)
