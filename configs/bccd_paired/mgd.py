# Masked generative distillation on every level of the neck, with the published ratio and weight for one stage.
_base_ = './kd.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='feats',
            loss=dict(type='MaskedGeneration', mask_ratio=0.65),
            weight=3 * 2e-5,  # published for each level; Transfer takes the mean over the three
        )
    ]
)
