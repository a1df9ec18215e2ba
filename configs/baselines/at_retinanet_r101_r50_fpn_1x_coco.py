# Attention transfer of the neck, RetinaNet R101 teaches R50. The weight of each level is the paper's, given for image
# classification; it has no figure for detection.
_base_ = './kd_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='feats',
            loss=dict(type='AttentionTransfer'),
            weight=5 * 1000.0,
        )
    ]
)
