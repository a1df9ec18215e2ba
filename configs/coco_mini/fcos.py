# FCOS: two iterations and a validation.
_base_ = [
    '../_base_/datasets/coco_mini.py',
    '../_base_/models/coco_mini_dense.py',
    '../_base_/schedules/sgd_2_iterations.py',
    '../_base_/runtime/detection_2_iterations.py',
]
detector = dict(
    type='FCOS',
    bbox_head=dict(
        type='FCOSHead',
        num_classes=80,
        in_channels=32,
        feat_channels=32,
        stacked_convs=1,
        norm_cfg=dict(type='GN', num_groups=8),
        strides=[8, 16, 32, 64, 128],
    ),
)
model = dict(roles=dict(student=detector, teacher=detector))
