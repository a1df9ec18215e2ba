# The networks of configs/camvid_paired: both from ImageNet weights (tools/convert_mbv2.py writes the file), as the
# pairs of Cityscapes are. The student is MobileNetV2 up to its fourth stage with half of the teacher's channels behind.
norm_cfg = dict(type='SyncBN', requires_grad=True)  # becomes BN where no process group runs
imagenet = dict(type='Pretrained', checkpoint='{{$MMADM_WEIGHTS:weights}}/mobilenet_v2_imagenet.pth')
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(120, 160),  # the crop of ../datasets/camvid.py
)
decode_head = dict(
    type='FPNHead',
    dropout_ratio=0.1,
    num_classes=11,
    norm_cfg=norm_cfg,
    align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False),
)

student = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mmadm.FirstStages',
        backbone=dict(type='MobileNetV2', out_indices=(1, 2, 3), norm_cfg=norm_cfg, init_cfg=imagenet),
    ),
    neck=dict(type='FPN', in_channels=[24, 32, 64], out_channels=32, num_outs=3),
    decode_head=dict(
        decode_head, in_channels=[32, 32, 32], in_index=[0, 1, 2], feature_strides=[4, 8, 16], channels=32
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

teacher = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='MobileNetV2', out_indices=(1, 2, 4, 6), norm_cfg=norm_cfg, init_cfg=imagenet),
    neck=dict(type='FPN', in_channels=[24, 32, 96, 320], out_channels=64, num_outs=4),
    decode_head=dict(
        decode_head,
        in_channels=[64, 64, 64, 64],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=64,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
