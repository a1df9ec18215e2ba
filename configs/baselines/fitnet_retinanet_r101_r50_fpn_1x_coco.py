# FitNet's hint on the neck, RetinaNet R101 teaches R50. The paper trains the hint before the task and so gives no weight
# relative to it: 1 for each level is ours, and was not tuned.
_base_ = './kd_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='feats',
            loss=dict(type='HintMSE'),
            weight=5 * 1.0,
        )
    ]
)
