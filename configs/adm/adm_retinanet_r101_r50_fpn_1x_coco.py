# ADM on top of mutual learning, RetinaNet R101 and R50 on COCO: 8 GPUs, 2 images each, 12 epochs.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/models/retinanet_r101_r50.py',
    '../_base_/schedules/sgd_1x.py',
    '../_base_/runtime/detection_epochs.py',
]
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    student=dict(optimizer={{_base_.optimizer}}),
    teacher=dict(optimizer={{_base_.optimizer}}),
)
