# Masked generative distillation of the neck, RetinaNet R101 teaches R50. Mask ratio and weight of each level are those of
# MGD's config for one-stage detectors. With avatars, 2x: ../akd.
_base_ = './kd_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='feats',
            loss=dict(type='MaskedGeneration', mask_ratio=0.65),
            weight=5 * 2e-5,
        )
    ]
)
