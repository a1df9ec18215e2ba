# Localisation distillation (LD) of box distributions, in positives and around them, and of the positives' classes, GFL
# R101 teaches R50: temperatures and weights as published. The released R50 config adds imitation of features.
_base_ = './bckd_gfl_r101_r50_fpn_1x_coco.py'
model = dict(distillers=[dict(type='mmadm.LD', source='teacher', learner='student')])
