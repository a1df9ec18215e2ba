# AKD on masked distillation with receptive tokens of the neck, and L1 on the box maps; RetinaNet R101 teaches R50.
# The tokens come first, and may be given as another file:
# python tools/train.py configs/akd/maskd_tokens_retinanet_r101_fpn_2x_coco.py
# python tools/export.py work_dirs/maskd_tokens_retinanet_r101_fpn_2x_coco/iter_2000.pth --tokens <the file named below>
_base_ = './akd_cwd_retinanet_r101_r50_fpn_2x_coco.py'
maskd = dict(
    type='mmadm.Transfer',
    source='teacher',
    learner='student',
    at='feats',
    loss=dict(type='MaskedTokens', tokens='work_dirs/maskd_tokens_retinanet_r101_fpn_2x_coco/tokens.pth'),
    avatars={{_base_.avatars}},
    weight=5 * 7.0,
)
model = dict(distillers=[maskd, {{_base_.box_maps}}])
