# GFL: two iterations and a validation.
_base_ = [
    '../_base_/datasets/coco_mini.py',
    '../_base_/models/coco_mini_dense.py',
    '../_base_/schedules/sgd_2_iterations.py',
    '../_base_/runtime/detection_2_iterations.py',
]
detector = dict(
    type='GFL',
    bbox_head=dict(
        type='GFLHead',
        num_classes=80,
        in_channels=32,
        feat_channels=32,
        stacked_convs=1,
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=8,
            scales_per_octave=1,
            ratios=[1.0],
            strides=[8, 16, 32, 64, 128],
        ),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(type='ATSSAssigner', topk=9),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
)
model = dict(roles=dict(student=detector, teacher=detector))
