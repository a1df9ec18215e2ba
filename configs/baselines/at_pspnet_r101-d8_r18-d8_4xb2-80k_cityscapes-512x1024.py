# Attention transfer of the classifier's input, PSPNet R101 teaches R18. Tap and weight are those of CIRKD's program for
# Cityscapes, which adds KD to it; here it stands alone.
_base_ = './kd_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='pre_logits',
            loss=dict(type='AttentionTransfer'),
            weight=10000.0,
        )
    ]
)
