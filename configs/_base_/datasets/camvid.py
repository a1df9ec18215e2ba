"""CamVid, 11 classes, at 180x240 on the blocked split (same streets, later frames).

``MMADM_DATA`` names the folder that holds ``camvid``. Choose on val (60 frames), report on test (107 frames).
"""

dataset_type = 'mmadm.CamVidDataset'
data_root = '{{$MMADM_DATA:data}}/camvid'
split = 'blocked_'
crop_size = (180, 240)
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
