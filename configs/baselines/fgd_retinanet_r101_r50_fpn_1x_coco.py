# Focal and Global Distillation of the neck, RetinaNet R101 teaches R50: temperature, weights and gradient clipping as
# published for RetinaNet. FGD also starts the student's neck and head from the teacher's.
_base_ = './kd_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(distillers=[dict(type='mmadm.FGD', source='teacher', learner='student', at='feats')])
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
