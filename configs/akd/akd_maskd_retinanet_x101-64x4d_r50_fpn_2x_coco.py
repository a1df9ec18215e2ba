# AKD on masked distillation with receptive tokens of the neck, and L1 on the box maps; RetinaNet X101 (64x4d) teaches
# R50. The tokens come first, from maskd_tokens_retinanet_x101-64x4d_fpn_1x_coco.py, see the config of R101.
_base_ = './akd_cwd_retinanet_x101-64x4d_r50_fpn_2x_coco.py'
maskd = dict(
    type='mmadm.Transfer',
    source='teacher',
    learner='student',
    at='feats',
    loss=dict(type='MaskedTokens', tokens='work_dirs/maskd_tokens_retinanet_x101-64x4d_fpn_1x_coco/tokens.pth'),
    avatars={{_base_.avatars}},
    weight=5 * 7.0,
)
model = dict(distillers=[maskd, {{_base_.box_maps}}])
