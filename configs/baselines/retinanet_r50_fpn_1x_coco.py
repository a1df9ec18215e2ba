# Plain RetinaNet R50, the baseline of the students: one role, which trains exactly like stock MMDetection.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/schedules/sgd_1x.py',
    '../_base_/runtime/detection_epochs.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(student=dict(cfg='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')),
)
