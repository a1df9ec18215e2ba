# AKD on masked generative distillation of the neck, RetinaNet R101 teaches R50.
_base_ = './akd_cwd_retinanet_r101_r50_fpn_2x_coco.py'
model = dict(distillers=[{{_base_.mgd_one_stage}}])
