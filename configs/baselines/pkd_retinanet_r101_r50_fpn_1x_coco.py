# Pearson distance (PKD) of the neck, RetinaNet R101 teaches R50. The four finest levels and the weight of each are those
# of MMRazor's config for RetinaNet.
_base_ = './kd_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='feats[:4]',
            loss=dict(type='PearsonDistance'),
            weight=4 * 10.0,
        )
    ]
)
