# AKD with avatars that differ in strength: only then do its uncertainty weights differ from equal ones.
_base_ = './kd.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='logits',
            loss=dict(type='ChannelWiseDivergence', tau=1.0),
            avatars=dict(num=4, perturbation=[dict(type='Dropout', p=p) for p in (0.02, 0.1, 0.3, 0.5)]),
            weight=5.0,
        )
    ]
)
