# AKD on top of masked generative distillation: four perturbed copies of the teacher's neck.
_base_ = './cwd.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='feats',
            loss=dict(type='MaskedGeneration', mask_ratio=0.65),
            avatars=dict(num=4, perturbation=dict(type='Dropout', p=0.1)),
            weight=3 * 2e-5,  # published for each level; Transfer takes the mean over the three
        )
    ]
)
