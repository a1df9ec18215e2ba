# Masked generative distillation of the last features of one stride (16), with the published weight for one stage.
_base_ = './kd_mbv2.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at=dict(student='backbone.layer4', teacher='backbone.layer5'),
            loss=dict(type='MaskedGeneration', mask_ratio=0.65),
            weight=2e-5,
        )
    ]
)
