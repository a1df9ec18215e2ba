# Two Faster R-CNNs: ResNet-18 and -50 with a quarter of the channels, random weights, FPN, small heads.
data_preprocessor = dict(
    type='DetDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)
backbone = dict(type='ResNet', base_channels=16, norm_cfg=dict(type='BN'), norm_eval=False)
neck = dict(type='FPN', out_channels=32, num_outs=5)
head = dict(
    rpn_head=dict(
        type='RPNHead',
        in_channels=32,
        feat_channels=32,
        anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
    ),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=32,
            featmap_strides=[4, 8, 16, 32],
        ),
        bbox_head=dict(type='Shared2FCBBoxHead', in_channels=32, fc_out_channels=64, roi_feat_size=7, num_classes=80),
    ),
)
proposals = dict(nms_pre=200, max_per_img=100, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
rcnn_train = dict(
    assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5),
    sampler=dict(type='RandomSampler', num=64, pos_fraction=0.25, add_gt_as_proposals=True),
    pos_weight=-1,
    debug=False,
)
settings = dict(
    train_cfg=dict(
        rpn=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
            sampler=dict(type='RandomSampler', num=64, pos_fraction=0.5, add_gt_as_proposals=False),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=proposals,
        rcnn=rcnn_train,
    ),
    test_cfg=dict(
        rpn=proposals,
        rcnn=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.5), max_per_img=20),
    ),
)
common = dict(type='FasterRCNN', data_preprocessor=data_preprocessor, **head, **settings)

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
