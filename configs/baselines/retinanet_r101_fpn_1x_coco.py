# Plain RetinaNet R101, the baseline of the teachers: one role, which trains exactly like stock MMDetection.
_base_ = './retinanet_r50_fpn_1x_coco.py'
model = dict(roles=dict(student=dict(cfg='mmdet::retinanet/retinanet_r101_fpn_1x_coco.py')))
