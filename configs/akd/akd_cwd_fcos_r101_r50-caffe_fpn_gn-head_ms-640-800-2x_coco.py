# AKD on channel-wise distillation of the neck, FCOS R101 teaches R50, two scales.
_base_ = './akd_mgd_fcos_r101_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py'
model = dict(distillers=[{{_base_.cwd}}])
