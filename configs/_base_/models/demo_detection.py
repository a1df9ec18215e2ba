# The detectors of configs/demo: stock FCOS on ResNet-18 with strides 4, 8 and 16, as small boxes need, a quarter and half
# of the usual channels in the backbone. Neck and head are equal, so that levels and channels pair one to one.
norm_cfg = dict(type='BN', requires_grad=True)
data_preprocessor = dict(
    type='DetDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=16,
)
bbox_head = dict(
    type='FCOSHead',
    num_classes=3,
    in_channels=32,
    feat_channels=32,
    stacked_convs=1,
    strides=[4, 8, 16],
    # distance from a point to the farthest side of its box
    regress_ranges=((-1, 16), (16, 32), (32, 1e8)),
    norm_on_bbox=True,
    centerness_on_reg=True,
    center_sampling=True,
    norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
    loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
    loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
    loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
)
inference = dict(nms_pre=200, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=50)

student = dict(
    type='FCOS',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ResNet',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        base_channels=16,
        stem_channels=16,
        out_indices=(0, 1, 2),
        norm_cfg=norm_cfg,
        norm_eval=False,
    ),
    neck=dict(type='FPN', in_channels=[16, 32, 64], out_channels=32, num_outs=3),
    bbox_head=bbox_head,
    train_cfg=None,
    test_cfg=inference,
)
teacher = dict(
    type='FCOS',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ResNet',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        base_channels=32,
        stem_channels=32,
        out_indices=(0, 1, 2),
        norm_cfg=norm_cfg,
        norm_eval=False,
    ),
    neck=dict(type='FPN', in_channels=[32, 64, 128], out_channels=32, num_outs=3),
    bbox_head=bbox_head,
    train_cfg=None,
    test_cfg=inference,
)
