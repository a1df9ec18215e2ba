# AKD on masked generative distillation of the last stage, DeepLabV3 R101 teaches R18.
_base_ = './akd_cwd_deeplabv3_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(distillers=[{{_base_.mgd}}])
