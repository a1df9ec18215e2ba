# Channel-wise distillation of the neck, RetinaNet R101 teaches R50. Temperature and weight of each level are those of
# MMRazor's config for this pair. With avatars, 2x: ../akd.
_base_ = './kd_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='feats',
            loss=dict(type='ChannelWiseDivergence', tau=1.0),
            weight=5 * 10.0,
        )
    ]
)
