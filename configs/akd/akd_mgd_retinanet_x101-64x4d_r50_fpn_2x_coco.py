# AKD on masked generative distillation of the neck, RetinaNet X101 (64x4d) teaches R50.
_base_ = './akd_cwd_retinanet_x101-64x4d_r50_fpn_2x_coco.py'
model = dict(distillers=[{{_base_.mgd_one_stage}}])
