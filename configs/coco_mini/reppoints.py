# RepPoints: two iterations and a validation.
_base_ = [
    '../_base_/datasets/coco_mini.py',
    '../_base_/models/coco_mini_dense.py',
    '../_base_/schedules/sgd_2_iterations.py',
    '../_base_/runtime/detection_2_iterations.py',
]
detector = dict(
    type='RepPointsDetector',
    bbox_head=dict(
        type='RepPointsHead',
        num_classes=80,
        in_channels=32,
        feat_channels=32,
        point_feat_channels=32,
        stacked_convs=1,
        point_strides=[8, 16, 32, 64, 128],
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, loss_weight=1.0),
    ),
    train_cfg=dict(
        init=dict(
            assigner=dict(type='PointAssigner', scale=4, pos_num=1),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        refine=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
    ),
)
model = dict(roles=dict(student=detector, teacher=detector))
