# FitNet's hint in the middle of the backbone, PSPNet R101 teaches R18. The paper trains the hint before the task and so
# gives no weight relative to it: 1 is ours, and was not tuned.
_base_ = './kd_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='backbone.layer3',
            loss=dict(type='HintMSE'),
        )
    ]
)
