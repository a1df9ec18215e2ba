# The networks of configs/bccd_paired: FCOS with 3 levels (strides 8, 16, 32), both from ImageNet weights
# (tools/convert_mbv2.py writes the file). The student is MobileNetV2 up to its fourth stage with half of the teacher's
# channels behind. The levels pair one to one.
norm_cfg = dict(type='SyncBN', requires_grad=True)  # becomes BN where no process group runs
imagenet = dict(type='Pretrained', checkpoint='{{$MMADM_WEIGHTS:weights}}/mobilenet_v2_imagenet.pth')
data_preprocessor = dict(
    type='DetDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)
bbox_head = dict(
    type='FCOSHead',
    num_classes=3,
    in_channels=64,
    feat_channels=64,
    stacked_convs=1,
    strides=[8, 16, 32],
    # distance from a point to the farthest side of its box: platelets, red cells, white cells at 256x192
    regress_ranges=((-1, 20), (20, 48), (48, 1e8)),
    norm_on_bbox=True,
    centerness_on_reg=True,
    center_sampling=True,
    norm_cfg=dict(type='GN', num_groups=16, requires_grad=True),
    loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
    loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
    loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
)
inference = dict(nms_pre=300, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100)

student = dict(
    type='FCOS',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mmadm.FirstStages',
        # mmseg's, since mmdet's has other names and so cannot load the file
        backbone=dict(type='mmseg.MobileNetV2', out_indices=(2, 3), norm_cfg=norm_cfg, init_cfg=imagenet),
    ),
    neck=dict(type='FPN', in_channels=[32, 64], out_channels=32, add_extra_convs='on_output', num_outs=3),
    bbox_head=dict(bbox_head, in_channels=32, feat_channels=32),
    train_cfg=None,
    test_cfg=inference,
)

teacher = dict(
    type='FCOS',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='mmseg.MobileNetV2', out_indices=(2, 4, 6), norm_cfg=norm_cfg, init_cfg=imagenet),
    neck=dict(type='FPN', in_channels=[32, 96, 320], out_channels=64, num_outs=3),
    bbox_head=bbox_head,
    train_cfg=None,
    test_cfg=inference,
)
