# Two one-stage detectors without their heads: ResNet-18 and -50 with a quarter of the channels, random weights, and an
# FPN with 5 levels (strides 8 to 128). Each config of configs/coco_mini adds the detector and its head.
data_preprocessor = dict(
    type='DetDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)
backbone = dict(type='ResNet', base_channels=16, norm_cfg=dict(type='BN'), norm_eval=False)
neck = dict(type='FPN', out_channels=32, start_level=1, add_extra_convs='on_output', num_outs=5)
test_cfg_dense = dict(
    nms_pre=100, min_bbox_size=0, score_thr=0.01, nms=dict(type='nms', iou_threshold=0.6), max_per_img=20
)
common = dict(data_preprocessor=data_preprocessor, test_cfg=test_cfg_dense)

model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(backbone=dict(depth=18, **backbone), neck=dict(in_channels=[16, 32, 64, 128], **neck), **common),
        teacher=dict(backbone=dict(depth=50, **backbone), neck=dict(in_channels=[64, 128, 256, 512], **neck), **common),
    ),
    deploy='student',
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(type='mmadm.ADM', at='feats'),
    ],
)
