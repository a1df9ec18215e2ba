# Focal and Global Distillation of the neck, RetinaNet R101 teaches R50: temperature, weights, gradient clipping and the
# start with the teacher's neck and head as published for RetinaNet.
_base_ = './kd_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(
    roles=dict(student=dict(inherit=dict(teacher=['neck', 'bbox_head']))),
    distillers=[dict(type='mmadm.FGD', source='teacher', learner='student', at='feats')],
)
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
