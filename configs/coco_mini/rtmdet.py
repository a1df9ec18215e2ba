# RTMDet, an eighth and a quarter of the channels: two iterations and a validation.
_base_ = [
    '../_base_/datasets/coco_mini.py',
    '../_base_/schedules/sgd_2_iterations.py',
    '../_base_/runtime/detection_2_iterations.py',
]
activation = dict(norm_cfg=dict(type='BN'), act_cfg=dict(type='SiLU', inplace=True))
student, teacher = [
    dict(
        type='RTMDet',
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[103.53, 116.28, 123.675],
            std=[57.375, 57.12, 58.395],
            bgr_to_rgb=False,
            pad_size_divisor=32,
        ),
        backbone=dict(
            type='CSPNeXt', deepen_factor=0.167, widen_factor=width / 256, channel_attention=True, **activation
        ),
        neck=dict(
            type='CSPNeXtPAFPN',
            in_channels=[width, 2 * width, 4 * width],
            out_channels=width,
            num_csp_blocks=1,
            **activation,
        ),
        bbox_head=dict(
            type='RTMDetSepBNHead',
            num_classes=80,
            in_channels=width,
            feat_channels=width,
            stacked_convs=1,
            share_conv=True,
            pred_kernel_size=1,
            exp_on_reg=True,
            with_objectness=False,
            anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
            bbox_coder=dict(type='DistancePointBBoxCoder'),
            loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
            loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
            **activation,
        ),
        train_cfg=dict(
            assigner=dict(type='DynamicSoftLabelAssigner', topk=13), allowed_border=-1, pos_weight=-1, debug=False
        ),
        test_cfg=dict(
            nms_pre=100, min_bbox_size=0, score_thr=0.001, nms=dict(type='nms', iou_threshold=0.65), max_per_img=20
        ),
    )
    for width in (32, 64)
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(student=student, teacher=teacher),
    deploy='student',
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(type='mmadm.ADM', at='feats'),
    ],
)
