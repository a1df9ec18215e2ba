# Knowledge review (ReviewKD) of the five levels of the neck, RetinaNet R101 teaches R50: weight and channels of the
# fusion as published for RetinaNet.
_base_ = './kd_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(distillers=[dict(type='mmadm.ReviewKD', source='teacher', learner='student', at='feats')])
