# Channel-wise distillation of the logits, PSPNet R101 teaches R18. Temperature and weight are those of MMRazor's config
# for this pair. With avatars: ../akd.
_base_ = './kd_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='logits',
            loss=dict(type='ChannelWiseDivergence', tau=1.0),
            weight=5.0,
        )
    ]
)
