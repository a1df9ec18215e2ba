# ADM on top of mutual learning, Faster R-CNN R101 and R50 on COCO: 8 GPUs, 2 images each, 12 epochs.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/models/faster_rcnn_r101_r50.py',
    '../_base_/schedules/sgd_1x.py',
    '../_base_/runtime/detection_epochs.py',
]
optimizer = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001)  # two-stage detectors: twice the rate
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    student=dict(optimizer=optimizer),
    teacher=dict(optimizer=optimizer),
)
