# Masked generative distillation of the last stage, PSPNet R101 teaches R18. Mask ratio and weight are those of MGD's
# config for this pair. With avatars: ../akd.
_base_ = './kd_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='backbone.layer4',
            loss=dict(type='MaskedGeneration', mask_ratio=0.75),
            weight=2e-5,
        )
    ]
)
