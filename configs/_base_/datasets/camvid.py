"""CamVid, 11 classes, at 180x240 on the blocked split (same streets, later frames).

``MMADM_DATA`` names the folder that holds ``camvid``. Choose on val (60 frames), report on test (107 frames).
For the original split (other streets) set, in each data loader's dataset, for example
``ann_file='splits/test.txt', data_prefix=dict(img_path='images/test', seg_map_path='annotations/test')``.
"""

dataset_type = 'mmadm.CamVidDataset'
data_root = '{{$MMADM_DATA:data}}/camvid'
crop_size = (120, 160)
scale = (240, 180)  # width, height: half of the stored images

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.75), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    # after Resize, so that the score is taken at the label's own resolution
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

dataset = dict(
    type=dataset_type,
    data_root=data_root,
    # lines of the blocked split are `split/stem`, relative to these
    data_prefix=dict(img_path='images', seg_map_path='annotations'),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(ann_file='splits/blocked_train.txt', pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    batch_size=4,  # all images have one size
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file='splits/blocked_val.txt', pipeline=test_pipeline, **dataset),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file='splits/blocked_test.txt', pipeline=test_pipeline, **dataset),
)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
