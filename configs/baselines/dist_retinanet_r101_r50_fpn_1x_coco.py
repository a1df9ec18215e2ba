# DIST of the class scores, RetinaNet R101 teaches R50. All weights and the temperature are 1, as published; that each
# level counts as a whole loss is ours.
_base_ = './kd_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='logits',
            loss=dict(type='DIST', tau=1.0, inter=1.0, intra=1.0),
            weight=5 * 1.0,
        )
    ]
)
