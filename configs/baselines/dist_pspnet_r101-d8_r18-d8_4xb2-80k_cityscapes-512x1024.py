# DIST of the logits, PSPNet R101 teaches R18. All weights and the temperature are 1, as in DIST's program for Cityscapes.
_base_ = './kd_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='logits',
            loss=dict(type='DIST', tau=1.0, inter=1.0, intra=1.0),
        )
    ]
)
