# ADM on top of mutual learning, RTMDet-s and RTMDet-tiny on COCO: 8 GPUs, 32 images each, 300 epochs.
# One thing differs from MMDetection's run of RTMDet-tiny: the mosaic and mix-up caches are those of RTMDet-s, as both
# roles see one batch.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/models/rtmdet_s_tiny.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/runtime/detection_epochs.py',
]
size = (640, 640)
grey = dict(img=(114, 114, 114))
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
crop = [
    dict(type='RandomCrop', crop_size=size),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=size, pad_val=grey),
]
train_pipeline = [
    *load,
    dict(type='CachedMosaic', img_scale=size, pad_val=114.0),
    dict(type='RandomResize', scale=(1280, 1280), ratio_range=(0.5, 2.0), keep_ratio=True),
    *crop,
    dict(type='CachedMixUp', img_scale=size, ratio_range=(1.0, 1.0), max_cached_images=20, pad_val=(114, 114, 114)),
    dict(type='PackDetInputs'),
]
last_epochs = [
    *load,
    dict(type='RandomResize', scale=size, ratio_range=(0.5, 2.0), keep_ratio=True),
    *crop,
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=size, keep_ratio=True),
    dict(type='Pad', size=size, pad_val=grey),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=32, num_workers=10, batch_sampler=None, pin_memory=True, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=5, num_workers=10, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    constructor='mmadm.RoleOptimWrapperConstructor',
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
)
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=3))
custom_hooks = [
    dict(
        type='mmadm.RoleEMAHook',
        roles=['student', 'teacher'],
        ema_type='ExpMomentumEMA',
        momentum=0.0002,
        update_buffers=True,
        priority=49,
    ),
    dict(type='PipelineSwitchHook', switch_epoch=280, switch_pipeline=last_epochs),
]
