"""Generated street scenes (``tools/make_streets.py``) with boxes of people, cars and traffic signs; no test split.

``MMADM_DATA`` names the folder that holds ``streets``.
"""

dataset_type = 'CocoDataset'
data_root = '{{$MMADM_DATA:data}}/streets'
# the colours of Cityscapes, that of cars lighter: it has to show on asphalt
metainfo = dict(classes=('person', 'car', 'traffic sign'), palette=[(220, 20, 60), (0, 150, 255), (220, 220, 0)])

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(256, 128), keep_ratio=True),  # the images' own size: it notes the scale, which is 1
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

dataset = dict(type=dataset_type, data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,  # drawing the next batch takes a tenth of a step: a worker process would cost more than it saves
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='leftImg8bit/train/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=4,  # all images have one size
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='leftImg8bit/val/'),
        test_mode=True,
        pipeline=test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + '/annotations/instances_val.json', metric='bbox', classwise=True
)
test_evaluator = val_evaluator
